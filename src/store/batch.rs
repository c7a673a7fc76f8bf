//! A batch of smiles on its way into a log: which of them are new, and which repeat one another.
//!
//! Owns that sorting, which both databases do alike. Must not know SQL.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::{Serialize, Serializer};

use super::Appended;
use super::directory::Directory;
use crate::model::{NewSmile, Offset};

/// What makes a smile one smile: its sender's row id and its own id.
pub(super) type Key<'batch> = (i64, &'batch str);

/// One smile as a row of the log, before it has a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'batch> {
    pub(super) sender: i64,
    pub(super) id: &'batch str,
    pub(super) receiver: i64,
    pub(super) conversation: i64,
    pub(super) faces: &'batch str,
}

impl<'batch> Row<'batch> {
    pub(super) fn new(smile: &'batch NewSmile, directory: &Directory) -> Self {
        let (sender, receiver) = (directory.id(&smile.from), directory.id(&smile.to));
        Self {
            sender,
            id: smile.id.as_str(),
            receiver,
            conversation: conversation(sender, receiver),
            faces: smile.faces.as_str(),
        }
    }

    pub(super) fn key(&self) -> Key<'batch> {
        (self.sender, self.id)
    }
}

/// As an array, in the order of the fields: it is unpacked by place.
impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.sender, self.id, self.receiver, self.conversation, self.faces).serialize(serializer)
    }
}

/// The pair of two users as one integer, whoever of them sends.
pub(super) fn conversation(one: i64, other: i64) -> i64 {
    one.min(other) << 32 | one.max(other)
}

/// What one smile of a batch is to the log.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To be stored, this many places after the head.
    New(u64),
    /// The same smile as an earlier one of this batch, at that index of it.
    Repeat(usize),
    /// In the log already.
    Known(Appended),
}

/// A batch, sorted into what is new and what is not.
#[derive(Debug)]
pub(super) struct Batch<'rows, 'batch> {
    /// What is to be stored, in order.
    pub(super) new: Vec<&'rows Row<'batch>>,
    places: Vec<Place>,
}

impl<'rows, 'batch> Batch<'rows, 'batch> {
    /// Sorts `rows`, given what became of those that are in the log already.
    pub(super) fn new(rows: &'rows [Row<'batch>], known: &HashMap<Key<'batch>, Appended>) -> Self {
        let mut new = Vec::with_capacity(rows.len());
        let mut firsts = HashMap::with_capacity(rows.len());
        let places = rows.iter().enumerate().map(|(index, row)| match firsts.entry(row.key()) {
            Entry::Occupied(first) => Place::Repeat(*first.get()),
            Entry::Vacant(vacant) => {
                vacant.insert(index);
                known.get(&row.key()).map_or_else(
                    || {
                        new.push(row);
                        Place::New(new.len() as u64)
                    },
                    |appended| Place::Known(*appended),
                )
            }
        });
        Self { places: places.collect(), new }
    }

    /// What became of each smile, once the new ones are stored right after `head`.
    pub(super) fn appended(&self, head: Offset) -> Vec<Appended> {
        let mut appended: Vec<Appended> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            appended.push(match *place {
                Place::New(number) => Appended::Stored(Offset(head.0 + number)),
                Place::Known(known) => known,
                Place::Repeat(first) => Appended::Duplicate(appended[first].offset()),
            });
        }
        appended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_counts() {
        let row = |id| Row { sender: 1, id, receiver: 2, conversation: conversation(2, 1), faces: "😀" };
        let rows = ["a", "b", "a", "c", "b"].map(row);
        let known = HashMap::from([((1, "b"), Appended::Stored(Offset(3)))]);
        let batch = Batch::new(&rows, &known);
        let new: Vec<_> = batch.new.iter().map(|row| row.id).collect();
        assert_eq!(new, ["a", "c"]);
        assert_eq!(
            batch.appended(Offset(7)),
            [
                Appended::Stored(Offset(8)),
                Appended::Stored(Offset(3)),
                Appended::Duplicate(Offset(8)),
                Appended::Stored(Offset(9)),
                Appended::Duplicate(Offset(3)),
            ]
        );
    }
}
