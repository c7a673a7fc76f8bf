//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.

pub mod config;
pub mod model;
pub mod protocol;
