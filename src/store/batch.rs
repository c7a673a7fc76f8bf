//! The encoding of a batch in a row of the log: a [`Payload`] in the `postcard` format. A smile takes about 25 bytes,
//! and encoding it takes about 0.1 µs.

use serde::{Deserialize, Serialize};

use super::user_directory::UserDirectory;
use super::{Store, StoreError};
use crate::model::{Faces, NewSmile, Offset, Smile, SmileId, Timestamp};

/// An upper bound on the encoded size of a new smile in bytes, without the text of its id and faces.
const RECORD_BYTES: usize = 12;

#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimit {
    pub smiles: usize,
    /// In bytes.
    pub(super) payload: usize,
}

impl BatchLimit {
    /// Larger commits cost less per smile, and let more frames share one write to a socket. A history reads whole rows,
    /// so their size is bounded.
    pub(super) const SQLITE: Self = Self { smiles: 2000, payload: 256 * 1024 };

    /// A payload fits into one TLS record (16 KiB, RFC 8446, section 5.1). The client library would send a larger
    /// payload in several writes and, since Nagle's algorithm is on, the last write would wait up to 40 ms for a
    /// delayed acknowledgement. [`BatchLimit::fitting`] counts about 28 bytes for a typical smile, so about 550 smiles
    /// fill a payload. Once the filters of the index are loaded, load shedding divides the length of the queue by this
    /// number of smiles.
    pub(super) const MYSQL: Self = Self { smiles: 550, payload: 15 * 1024 };

    /// The number of leading smiles that fit into one batch.
    pub(crate) fn fitting<'smiles>(&self, smiles: impl Iterator<Item = &'smiles NewSmile>) -> usize {
        let mut left = self.payload;
        let mut fits = |smile: &&NewSmile| {
            let bytes = RECORD_BYTES + smile.id.as_str().len() + smile.faces.as_str().len();
            left.checked_sub(bytes).map(|rest| left = rest).is_some()
        };
        smiles.take(self.smiles).take_while(|smile| fits(smile)).count()
    }
}

/// The format version that this program writes and reads.
const FORMAT: u8 = 1;

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub key: BatchKey,
    /// At least one smile, in the order of the log, without gaps.
    pub smiles: Vec<Smile>,
}

/// Identifies a batch across all logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchKey {
    pub first: Offset,
    /// A random number that distinguishes different batches at the same offset.
    pub token: i64,
}

impl Batch {
    pub(super) fn decode(token: i64, payload: &[u8], directory: &UserDirectory) -> Result<Self, StoreError> {
        let damaged = || {
            StoreError::Unavailable(
                "a batch cannot be decoded: it was edited by hand, or a newer version wrote it".into(),
            )
        };
        let decoded: Payload<'_> = postcard::from_bytes(payload).map_err(|_| damaged())?;
        if decoded.format != FORMAT || decoded.smiles.is_empty() {
            return Err(damaged());
        }
        let smile = |record: &Record<'_>| {
            Some(Smile {
                offset: Offset(decoded.first + record.after_first),
                id: SmileId::parse(record.id)?,
                from: directory.name(record.sender)?.clone(),
                to: directory.name(record.receiver)?.clone(),
                faces: Faces::from_stored(record.faces),
                at: Timestamp(decoded.at + record.after_at),
            })
        };
        let smiles = decoded.smiles.iter().map(|record| smile(record).ok_or_else(damaged));
        let key = BatchKey { first: Offset(decoded.first), token };
        Ok(Self { key, smiles: smiles.collect::<Result<_, _>>()? })
    }

    pub(crate) fn last(&self) -> Offset {
        self.smiles.last().map_or(self.key.first, |smile| smile.offset)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct NewBatch {
    pub(super) previous: Option<BatchKey>,
    pub key: BatchKey,
    /// The number of smiles.
    pub(super) count: usize,
    pub(super) payload: Vec<u8>,
}

/// `first` is the offset of the first smile, and `at` its time in milliseconds since 1970. The offsets and times of the
/// records are relative to `first` and `at`.
#[derive(Serialize, Deserialize)]
struct Payload<'row> {
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

impl Store {
    /// Encodes smiles as the batch that follows `previous`, which ends at `after`. `previous` is `None` if the writer
    /// has found no batch in the log. There must be at least one smile, and all users must come from [`Store::user`].
    pub(crate) fn new_batch<'smiles>(
        &self,
        previous: Option<BatchKey>,
        after: Offset,
        smiles: impl IntoIterator<Item = &'smiles NewSmile>,
        at: Timestamp,
    ) -> NewBatch {
        let (directory, first) = (self.directory(), after.next());
        let records = smiles.into_iter().zip(0..).map(|(smile, after_first)| Record {
            after_first,
            after_at: 0,
            sender: directory.id(&smile.from),
            receiver: directory.id(&smile.to),
            id: smile.id.as_str(),
            faces: smile.faces.as_str(),
        });
        let payload = Payload { format: FORMAT, first: first.0, at: at.0, smiles: records.collect() };
        let key = BatchKey { first, token: rand::random() };
        NewBatch { previous, key, count: payload.smiles.len(), payload: to_bytes(&payload) }
    }
}

impl NewBatch {
    pub(super) fn select_token(&self) -> String {
        format!("SELECT token FROM log_batches WHERE first = {}", self.key.first)
    }
}

/// The smiles must be in the order of the log.
pub(super) fn encode(smiles: &[Smile], directory: &UserDirectory) -> Vec<u8> {
    let (first, at) = smiles.first().map_or((0, 0), |smile| (smile.offset.0, smile.at.0));
    let records = smiles.iter().map(|smile| Record {
        after_first: smile.offset.0 - first,
        after_at: smile.at.0 - at,
        sender: directory.id(&smile.from),
        receiver: directory.id(&smile.to),
        id: smile.id.as_str(),
        faces: smile.faces.as_str(),
    });
    to_bytes(&Payload { format: FORMAT, first, at, smiles: records.collect() })
}

/// The query for a page, from one snapshot: the state of the log, the token of the last batch that begins at or before
/// `after`, and at most `batches` batches that begin after `after`.
pub(super) fn select_page(after: Offset, batches: u32) -> String {
    format!(
        "SELECT state.epoch, state.trimmed, \
             COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), state.trimmed), \
             (SELECT token FROM log_batches WHERE first <= {after} ORDER BY first DESC LIMIT 1), \
             page.token, page.payload \
         FROM log_state AS state LEFT JOIN ( \
             SELECT first, token, payload FROM log_batches WHERE first > {after} ORDER BY first LIMIT {batches} \
         ) AS page ON TRUE \
         WHERE state.one = 1 ORDER BY page.first"
    )
}

/// The query of [`Store::batches_at`].
pub(super) fn select_at(offsets: &[Offset]) -> String {
    let first = |offset: &Offset| {
        format!(
            "SELECT * FROM (SELECT first FROM log_batches WHERE first <= {offset} ORDER BY first DESC LIMIT 1) AS one"
        )
    };
    let firsts = offsets.iter().map(first).collect::<Vec<_>>().join(" UNION ");
    format!("SELECT token, payload FROM log_batches JOIN ({firsts}) AS wanted USING (first) ORDER BY first")
}

fn to_bytes(payload: &Payload<'_>) -> Vec<u8> {
    postcard::to_allocvec(payload).expect("integers and strings should serialize")
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
            at: Timestamp(at),
        }
    }

    fn directory() -> UserDirectory {
        UserDirectory::new(vec![(1, "anna".to_owned(), "🙂".to_owned()), (2, "bruno".to_owned(), "😎".to_owned())])
    }

    #[test]
    fn batches_survive_a_round_trip() {
        let smiles = [smile(7, 1_795_410_000_120), smile(9, 1_795_410_000_119), smile(4_000, 1_795_420_000_000)];
        let row = encode(&smiles, &directory());
        assert_eq!(Batch::decode(7, &row, &directory()).unwrap().smiles, smiles);
        assert!(row.len() < 3 * 30, "the row had {} bytes", row.len());
    }

    #[test]
    fn rows_that_are_malformed_or_have_a_newer_format_are_refused() {
        let mut row = encode(&[smile(7, 0)], &directory());
        let empty = encode(&[], &directory());
        for bytes in [&b""[..], b"nonsense", &row[..row.len() - 1], &empty] {
            assert!(Batch::decode(7, bytes, &directory()).is_err());
        }
        row[0] = FORMAT + 1;
        assert!(Batch::decode(7, &row, &directory()).is_err());
    }
}
