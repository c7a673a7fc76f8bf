//! The simulated users in memory: names to row ids and back. The users never change.

use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{User, UserName};

/// Every user of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct UserDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    users: Vec<User>,
    ids: HashMap<UserName, u32>,
    /// Indexed by row id; the ids are small.
    names: Vec<Option<UserName>>,
}

impl UserDirectory {
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

    /// The users in the order of their row ids.
    pub(super) fn users(&self) -> &[User] {
        &self.inner.users
    }

    /// The user with this name.
    pub(super) fn find(&self, name: &str) -> Option<&UserName> {
        self.inner.ids.get_key_value(name).map(|(name, _)| name)
    }

    /// The row id of a user; `u32::MAX`, which no row has, if the user does not exist.
    pub(super) fn id(&self, name: &UserName) -> u32 {
        self.inner.ids.get(name).copied().unwrap_or(u32::MAX)
    }

    /// The user with this row id.
    pub(super) fn name(&self, id: u32) -> Option<&UserName> {
        self.inner.names.get(id as usize)?.as_ref()
    }

    /// The key of a conversation, the same for either order of its users.
    pub(super) fn conversation(&self, one: &UserName, other: &UserName) -> i64 {
        let (one, other) = (self.id(one), self.id(other));
        i64::from(one.min(other)) << 32 | i64::from(one.max(other))
    }
}
