//! The keyed hash of a sender and an id.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::model::{SmileId, UserName};

/// The 128-bit `SipHash-1-3` of a sender and an id (Aumasson and Bernstein, 2012). The hash represents the pair: an
/// accidental collision is less likely than an undetected disk error, and clients cannot search for collisions without
/// the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IdHash(u128);

impl IdHash {
    pub(crate) fn new(key: &[u8; 16], sender: &UserName, id: &SmileId) -> Self {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(sender.as_str().as_bytes());
        // A separator that UTF-8 text never contains.
        hasher.write_u8(0xff);
        hasher.write(id.as_str().as_bytes());
        Self(hasher.finish128().as_u128())
    }

    /// The upper half, which the index stores. Equal halves are only a hint: compare the whole hashes.
    pub(crate) fn short(self) -> u64 {
        u64::try_from(self.0 >> u64::BITS).unwrap_or(u64::MAX)
    }
}
