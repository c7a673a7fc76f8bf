//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.
//!
//! Each replica appends smiles to one log in the store, publishes the log in order, and sends it to the sessions of the two
//! users of each smile. The log is the only way to receive, for the sender's ack too.
//!
//! `docs/ARCHITECTURE.md` explains the design: the life of a smile, the log and its index, queues, invariants, and decisions
//! with their reasons.
//!
//! # Map
//!
//! In the direction of imports: a module uses only those above it.
//!
//! | module | what it does |
//! |---|---|
//! | [`model`] | the nouns, and what makes each valid; [`model::Faces`] is what counts as a smile |
//! | [`protocol`] | the wire: frames, error codes, close codes; the only home of `serde_json` |
//! | [`config`] | every option; `--help` is the reference |
//! | [`telemetry`] | logs and metrics |
//! | [`limits`] | admission: session, capacity, the store's delay; pure code that is given the time |
//! | [`store`] | the contract of the databases, and all SQL: log, index, and the cluster, which is MySQL's alone |
//! | [`hub`] | sessions by user, their outboxes; the only home of `dashmap` |
//! | [`tail`] | the end of the log: publishes it, keeps it in memory, follows what other replicas append |
//! | [`index`] | streams, histories and old ids, from memory and from the store; moves the index forward |
//! | [`log`] | the entrance to the log: group commit, and each id judged once |
//! | [`retention`] | removes what is old |
//! | [`replica`] | place, lease, readiness, hand-over, death on request |
//! | [`session`] | one WebSocket: welcome, catch up, live, close |
//! | [`http`] | routes, refusals, the embedded page |
//! | [`server`] | start order, stop order, drain |
//!
//! The other end, which uses only the first three of these, and `http_client`:
//!
//! | module | what it does |
//! |---|---|
//! | [`client`] | a session that is kept through crashes and drains, for programs; the HTTP requests beside it |
//! | [`simulate`] | conversations against replicas, and the ledger that proves the promises |
//! | [`check`] | the probe for images without a shell |
//! | [`operate`] | the list of replicas and the crash button, for terminals |
//! | [`http_client`] | one request over HTTP |
//!
//! Begin with [`session`]: everything else exists for it.

pub mod check;
pub mod client;
pub mod config;
pub mod http;
pub mod http_client;
pub mod hub;
pub mod index;
pub mod limits;
pub mod log;
pub mod model;
pub mod operate;
pub mod protocol;
pub mod replica;
pub mod retention;
pub mod server;
pub mod session;
pub mod simulate;
pub mod store;
pub mod tail;
pub mod telemetry;
