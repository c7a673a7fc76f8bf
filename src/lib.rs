//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.

pub mod config;
pub mod http;
pub mod hub;
pub mod limits;
pub mod log;
pub mod model;
pub mod protocol;
pub mod replica;
pub mod retention;
pub mod server;
pub mod session;
pub mod store;
pub mod tail;
pub mod telemetry;
