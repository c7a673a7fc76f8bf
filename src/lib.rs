//! TheSmilingChat: one ordered, durable log of smiles, and the WebSocket sessions that it feeds.
//!
//! Each replica appends smiles to one log in the store, publishes the log in order, and sends each smile to the
//! sessions of its two users. A session receives every smile to or from its user through the log; the session that sent
//! a smile receives the ack in place of the smile.
//!
//! `docs/ARCHITECTURE.md` explains the design: the life of a smile, the log and its index, queues, invariants, and
//! decisions with their reasons.
//!
//! # Map
//!
//! In dependency order: a module uses only modules above it.
//!
//! | module | purpose |
//! |---|---|
//! | [`model`] | users, smiles, offsets, epochs; [`model::Faces`] validates the content of a smile |
//! | [`protocol`] | the wire protocol: frames, error codes, close codes; the only user of `serde_json` outside tests |
//! | [`config`] | all options; `--help` is the reference |
//! | [`telemetry`] | logs and metrics |
//! | `limits` | admission: session rate, replica capacity, store delay; pure code, callers pass the time |
//! | `store` | SQLite and MySQL with all SQL: log, index and, on MySQL, the cluster |
//! | `hub` | the sessions by user and their outboxes; the only user of `dashmap` |
//! | `tail` | the end of the log in memory: publishes smiles, and follows other replicas |
//! | `index` | reads streams, histories and old ids; writes the index |
//! | `log` | appends smiles: group commit and deduplication |
//! | `retention` | removes old smiles, and the rows of replicas that were lost long ago |
//! | `replica` | lease, readiness, rebalancing, crashes on request |
//! | `session` | one WebSocket: welcome, catch up, live, close |
//! | `http` | routes, errors, rate limit, the embedded page; checks upgrades, and decides whether sessions resume |
//! | [`server`] | start-up, drain, shutdown |
//!
//! The client side uses only [`model`], [`protocol`], [`config`] and these modules:
//!
//! | module | purpose |
//! |---|---|
//! | [`client`] | for programs: a client that resumes its session after crashes and drains, and HTTP requests |
//! | [`simulate`] | simulates conversations against replicas and verifies the promises with a ledger |
//! | [`check`] | the health check for images without a shell |
//! | [`operate`] | on the command line: lists the replicas, and requests crashes |
//!
//! Start reading with `session`: most other modules do work for sessions.

pub mod check;
pub mod client;
pub mod config;
mod http;
mod hub;
mod index;
mod limits;
mod log;
pub mod model;
pub mod operate;
pub mod protocol;
mod replica;
mod retention;
pub mod server;
mod session;
pub mod simulate;
mod store;
mod tail;
pub mod telemetry;
