//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.

pub mod check;
pub mod config;
pub mod http_client;
pub mod model;
pub mod protocol;
pub mod simulate;
