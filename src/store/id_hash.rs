//! One number for a sender and an id.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::model::{SmileId, UserName};

/// The keyed hash of a sender and an id. It is as good as the pair itself: that two pairs of a log have the same is less
/// likely than that its disk errs unnoticed, and no client can look for such a pair without the key (Aumasson
/// and Bernstein, 2012).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdHash(u128);

impl IdHash {
    pub(crate) fn new(key: &[u8; 16], sender: &UserName, id: &SmileId) -> Self {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(sender.as_str().as_bytes());
        // No UTF-8 text has this byte, so that no two pairs run into one.
        hasher.write_u8(0xff);
        hasher.write(id.as_str().as_bytes());
        Self(hasher.finish128().as_u128())
    }

    /// The part of it that the index keeps: enough to find a smile by, and to be compared with it then.
    #[must_use]
    pub fn short(self) -> u64 {
        u64::try_from(self.0 >> u64::BITS).unwrap_or(u64::MAX)
    }
}
