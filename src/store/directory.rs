//! The simulated users in memory: names to row ids and back.
//!
//! Owns the look-up only; the rows are the databases'. The users never change, so neither does this.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{User, UserName};

/// Every user of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    users: Vec<User>,
    ids: HashMap<UserName, i64>,
    names: HashMap<i64, UserName>,
}

impl Directory {
    /// Builds the directory from rows of id, name and face.
    pub(super) fn new(rows: Vec<(i64, String, String)>) -> Self {
        let mut inner = Inner { users: Vec::new(), ids: HashMap::new(), names: HashMap::new() };
        for (id, name, face) in rows {
            let name = UserName::new(&name);
            inner.ids.insert(name.clone(), id);
            inner.names.insert(id, name.clone());
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

    /// The row id of a user that exists; -1, which no row has, for one that does not.
    pub(super) fn id(&self, name: &UserName) -> i64 {
        self.inner.ids.get(name).copied().unwrap_or(-1)
    }

    /// The user of a row id that a smile names.
    pub(super) fn name(&self, id: i64) -> Option<UserName> {
        self.inner.names.get(&id).cloned()
    }
}
