//! Maps the names of the users to row ids and back, in memory. The users are read when the store is opened. Only
//! migrations add users.

use foldhash::HashMap;

use crate::model::{User, UserName};

#[derive(Default)]
pub(super) struct UserDirectory {
    /// In the order of their row ids.
    pub(super) users: Vec<User>,
    ids: HashMap<UserName, u32>,
    /// Indexed by row id. The ids are small, so few places are empty.
    names: Vec<Option<UserName>>,
}

impl UserDirectory {
    pub(super) fn new(rows: Vec<(u32, String, String)>) -> Self {
        let mut directory = Self::default();
        for (id, name, face) in rows {
            let name = UserName::new(&name);
            let place = id as usize;
            directory.names.resize(directory.names.len().max(place + 1), None);
            directory.names[place] = Some(name.clone());
            directory.ids.insert(name.clone(), id);
            directory.users.push(User { name, face });
        }
        directory
    }

    pub(super) fn find(&self, name: &str) -> Option<&UserName> {
        self.ids.get_key_value(name).map(|(name, _)| name)
    }

    /// The row id of a user; `u32::MAX`, which no row has, if the user does not exist.
    pub(super) fn id(&self, name: &UserName) -> u32 {
        self.ids.get(name).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn name(&self, id: u32) -> Option<&UserName> {
        self.names.get(id as usize)?.as_ref()
    }

    /// The key of a conversation, the same for either order of its users.
    pub(super) fn conversation(&self, one: &UserName, other: &UserName) -> i64 {
        let (one, other) = (self.id(one), self.id(other));
        i64::from(one.min(other)) << 32 | i64::from(one.max(other))
    }
}
