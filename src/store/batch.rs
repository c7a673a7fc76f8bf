//! How smiles are written into the log: one batch a row, in `postcard`'s encoding of [`Run`]. A smile takes about 25 bytes
//! and a tenth of a microsecond.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::directory::Directory;
use crate::model::{Faces, NewSmile, Offset, Smile, SmileId, Timestamp};

/// Smiles of one batch at most. The more a commit carries, the less of it each smile pays.
pub const LARGEST_BATCH: usize = 1000;

/// Bytes that are sent to MySQL at once, about: as many as fit into one record of TLS (16 KiB, RFC 8446, section 5.1). More
/// are sent in several writes, by a library that leaves Nagle's algorithm on: the last one waits for the acknowledgement of
/// those before it, which the receiver delays by 40 ms.
pub(super) const LARGEST_PAYLOAD: usize = 15 * 1024;

/// Bytes of one smile in a batch besides its id and faces, at most: its offset, its time and its users.
const RECORD_BYTES: usize = 12;

/// How many of these smiles one batch takes.
#[must_use]
pub fn fitting<'smiles>(smiles: impl Iterator<Item = &'smiles NewSmile>) -> usize {
    let mut left = LARGEST_PAYLOAD;
    let mut fits = |smile: &&NewSmile| {
        let bytes = RECORD_BYTES + smile.id.as_str().len() + smile.faces.as_str().len();
        left.checked_sub(bytes).map(|rest| left = rest).is_some()
    };
    smiles.take(LARGEST_BATCH).take_while(|smile| fits(smile)).count()
}

/// The encoding that this version writes and reads.
const FORMAT: u8 = 1;

/// One row of the log: consecutive smiles that one commit made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Drawn at random by the replica that made it: tells its own batch from another replica's at the same offset.
    pub token: i64,
    /// In the order of the log, without gaps, at least one.
    pub smiles: Vec<Smile>,
}

/// Names a batch of the log: no two logs have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchKey {
    /// The offset of its first smile.
    pub first: Offset,
    /// See [`Batch::token`].
    pub token: i64,
}

impl Batch {
    /// What names this batch.
    #[must_use]
    pub fn key(&self) -> Option<BatchKey> {
        self.smiles.first().map(|smile| BatchKey { first: smile.offset, token: self.token })
    }
}

/// A batch on its way into the log, encoded once however often it is tried.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// The batch that it follows, unless it is the first of the log. The log takes it after no other.
    pub(super) previous: Option<BatchKey>,
    /// What names it.
    pub key: BatchKey,
    /// How many smiles it has.
    pub(super) count: usize,
    pub(super) payload: Vec<u8>,
}

/// Smiles in the order of the log, as a row holds them. Offsets and times are kept as what they add to the first one's.
#[derive(Serialize, Deserialize)]
struct Run<'row> {
    format: u8,
    first: u64,
    at: i64,
    #[serde(borrow)]
    smiles: Vec<Record<'row>>,
}

#[derive(Serialize, Deserialize)]
struct Record<'row> {
    after_first: u64,
    after_at: i64,
    sender: u32,
    receiver: u32,
    id: &'row str,
    faces: &'row str,
}

impl NewBatch {
    /// Encodes `smiles`, whose users are in the directory, to stand in the log from `first` on, after `previous`.
    pub(super) fn new(
        previous: Option<BatchKey>,
        first: Offset,
        smiles: &[NewSmile],
        at: Timestamp,
        directory: &Directory,
    ) -> Self {
        let records = smiles.iter().zip(0..).map(|(smile, after_first)| Record {
            after_first,
            after_at: 0,
            sender: directory.id(&smile.from),
            receiver: directory.id(&smile.to),
            id: smile.id.as_str(),
            faces: smile.faces.as_str(),
        });
        let run = Run { format: FORMAT, first: first.0, at: at.as_milliseconds(), smiles: records.collect() };
        let key = BatchKey { first, token: rand::random() };
        Self { previous, key, count: smiles.len(), payload: to_bytes(&run) }
    }
}

/// Encodes smiles of the log; their offsets and times grow.
pub(super) fn encode<'smiles>(smiles: impl Iterator<Item = &'smiles Smile>, directory: &Directory) -> Vec<u8> {
    let mut run = Run { format: FORMAT, first: 0, at: 0, smiles: Vec::new() };
    for smile in smiles {
        let at = smile.at.as_milliseconds();
        if run.smiles.is_empty() {
            (run.first, run.at) = (smile.offset.0, at);
        }
        run.smiles.push(Record {
            after_first: smile.offset.0 - run.first,
            after_at: at - run.at,
            sender: directory.id(&smile.from),
            receiver: directory.id(&smile.to),
            id: smile.id.as_str(),
            faces: smile.faces.as_str(),
        });
    }
    to_bytes(&run)
}

/// Reads a row.
///
/// # Errors
/// [`StoreError::Unavailable`] when it is not one that this program wrote.
pub(super) fn decode(row: &[u8], directory: &Directory) -> Result<Vec<Smile>, StoreError> {
    let damaged = || StoreError::Unavailable("a row does not hold smiles: it was changed by hand, or is newer".into());
    let run: Run<'_> = postcard::from_bytes(row).map_err(|_| damaged())?;
    if run.format != FORMAT {
        return Err(damaged());
    }
    let smile = |record: &Record<'_>| {
        Some(Smile {
            offset: Offset(run.first + record.after_first),
            id: SmileId::parse(record.id)?,
            from: directory.name(record.sender)?.clone(),
            to: directory.name(record.receiver)?.clone(),
            faces: Faces::from_stored(record.faces),
            at: Timestamp::from_milliseconds(run.at + record.after_at),
        })
    };
    run.smiles.iter().map(|record| smile(record).ok_or_else(damaged)).collect()
}

/// The statement that reads the batches which hold these offsets, or for each the last one before it.
pub(super) fn select_at(offsets: &[Offset]) -> String {
    let first = |offset: &Offset| {
        format!(
            "SELECT * FROM (SELECT first FROM log_batches WHERE first <= {offset} ORDER BY first DESC LIMIT 1) AS one"
        )
    };
    let firsts = offsets.iter().map(first).collect::<Vec<_>>().join(" UNION ");
    format!("SELECT token, payload FROM log_batches JOIN ({firsts}) AS wanted USING (first) ORDER BY first")
}

fn to_bytes(run: &Run<'_>) -> Vec<u8> {
    postcard::to_allocvec(run).expect("numbers and text have an encoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smile(offset: u64, at: i64) -> Smile {
        Smile {
            offset: Offset(offset),
            id: SmileId::parse(&format!("c{offset}")).unwrap(),
            from: crate::model::UserName::new("anna"),
            to: crate::model::UserName::new("bruno"),
            faces: Faces::parse("😀").unwrap(),
            at: Timestamp::from_milliseconds(at),
        }
    }

    fn directory() -> Directory {
        Directory::new(vec![(1, "anna".to_owned(), "🙂".to_owned()), (2, "bruno".to_owned(), "😎".to_owned())])
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let smiles = [smile(7, 1_795_410_000_120), smile(9, 1_795_410_000_119), smile(4_000, 1_795_420_000_000)];
        let row = encode(smiles.iter(), &directory());
        assert_eq!(decode(&row, &directory()).unwrap(), smiles);
        assert!(row.len() < 3 * 30, "{} bytes", row.len());
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        let mut row = encode([smile(7, 0)].iter(), &directory());
        for bytes in [&b""[..], b"nonsense", &row[..row.len() - 1]] {
            assert!(decode(bytes, &directory()).is_err());
        }
        row[0] = FORMAT + 1;
        assert!(decode(&row, &directory()).is_err(), "a newer format");
    }
}
