//! The simulated users in memory: names to row ids and back. The users never change, so neither does this.

use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{User, UserName};

/// Every user of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    users: Vec<User>,
    ids: HashMap<UserName, u32>,
    /// By row id; the ids of the users are small.
    names: Vec<Option<UserName>>,
}

impl Directory {
    /// Builds the directory from rows of id, name and face.
    pub(super) fn new(rows: Vec<(u32, String, String)>) -> Self {
        let mut inner = Inner { users: Vec::new(), ids: HashMap::default(), names: Vec::new() };
        for (id, name, face) in rows {
            let name = UserName::new(&name);
            let place = id as usize;
            inner.names.resize(inner.names.len().max(place + 1), None);
            inner.names[place] = Some(name.clone());
            inner.ids.insert(name.clone(), id);
            inner.users.push(User { name, face });
        }
        Self { inner: Arc::new(inner) }
    }

    /// The users in the order of their rows.
    pub(super) fn users(&self) -> &[User] {
        &self.inner.users
    }

    /// The user of that name.
    pub(super) fn find(&self, name: &str) -> Option<&UserName> {
        self.inner.ids.get_key_value(name).map(|(name, _)| name)
    }

    /// The row id of a user that exists; the largest number, which no row has, for one that does not.
    pub(super) fn id(&self, name: &UserName) -> u32 {
        self.inner.ids.get(name).copied().unwrap_or(u32::MAX)
    }

    /// The user of a row id that a smile names.
    pub(super) fn name(&self, id: u32) -> Option<&UserName> {
        self.inner.names.get(id as usize)?.as_ref()
    }

    /// The pair of two users as one integer, in either order.
    pub(super) fn conversation(&self, one: &UserName, other: &UserName) -> i64 {
        let (one, other) = (self.id(one), self.id(other));
        i64::from(one.min(other)) << 32 | i64::from(one.max(other))
    }
}
