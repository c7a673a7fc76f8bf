//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.
//!
//! # Bird's eye view
//!
//! Simulated **users** live in a **store**. A **smile** is one message from one user to another. Every smile is appended
//! to one **log** in the store, where it gets its **offset**; the **tail** follows the log and publishes what it reads;
//! the **hub** pushes each publication to the **sessions** of its two users; each session sends it on its socket. The
//! log is the only way to receive, for the sender's ack too, so order, completeness and resuming are decided in one
//! place. A client that loses its replica, however that died, reconnects to any other with the highest offset it has
//! seen, and goes on: nothing lost, nothing twice, nothing out of order.
//!
//! # Life of a smile
//!
//! ```text
//! Anna's socket                                                        Bruno's socket
//!   | text frame                                                            ^ send
//!   v                                                                       |
//! session: decode -> limits::admit  --no-->  error frame                session <- outbox
//!   | yes                                                                   ^ push (Anna's session turns it into the ack)
//!   v                                                                       |
//! log: group commit (one transaction carries every smile waiting)       hub.publish   (encoded once)
//!   | COMMIT = durable                                                      ^
//!   +--> the store's log ------------ read in offset order ----------> tail, on every replica
//!   +--> handed to the local tail in memory (saves the re-read; never changes the order)
//! ```
//!
//! # Map
//!
//! In the direction of imports: a module uses only those above it.
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | the nouns, and what makes each valid; [`model::Faces`] is what counts as a smile |
//! | [`protocol`] | the wire: frames, error codes, close codes; the only home of `serde_json` |
//! | [`config`] | every option; `--help` is the reference |
//! | [`telemetry`] | logs and metrics |
//! | [`limits`] | admission: session, capacity, the store's delay; pure code that is given the time |
//! | [`store`] | the contract of the databases, the cluster of replicas that share one, and all SQL; the only home of `sqlx` |
//! | [`hub`] | sessions by user, their outboxes; the only home of `dashmap` |
//! | [`tail`] | follows the log, publishes |
//! | [`log`] | appends with group commit |
//! | [`retention`] | removes what is old |
//! | [`replica`] | lease, readiness, handing over, death on request |
//! | [`session`] | one WebSocket: welcome, catch up, live, close |
//! | [`http`] | routes, refusals, the embedded page |
//! | [`server`] | start order, stop order, drain |
//!
//! The other end, which uses only the first three of these, and `http_client`:
//!
//! | module | owns |
//! |---|---|
//! | [`simulate`] | conversations against replicas, and the ledger that proves the promises |
//! | [`check`] | the probe for images without a shell |
//! | [`http_client`] | one GET |
//!
//! Begin with [`session`]: everything else exists for it.
//!
//! # Invariants
//!
//! Each has a test.
//!
//! 1. Offsets become visible in order: once a reader has seen n, nothing below n appears later ([`store`]).
//! 2. The tail publishes every offset, once, in order; a batch handed over in memory is used only when it starts right
//!    after the cursor ([`tail`]). A sender's session hears that its smile is stored before the tail publishes it, also
//!    when the tail sees it in the log first ([`log`]).
//! 3. A session subscribes before it reads what it missed, and the cursor moves before a batch is pushed, so that
//!    nothing falls between ([`session`], [`tail::Position`]).
//! 4. Every queue has a bound and a named outcome when full (see below). Nothing blocks the hub.
//! 5. Ready means: lease held where there are others, tail close to the head and hearing of it, not draining. Liveness
//!    asks no database ([`replica`]).
//! 6. The lease expires by the database's clock ([`store::Cluster`]).
//! 7. A vital task that ends ends the process: it never limps on ([`server`]). The tail ends when the log in the store is
//!    another one than at the start ([`tail`]).
//! 8. What registers something is a guard, and removes it on drop ([`hub::Subscription`]).
//!
//! # Queues
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | smiles in flight of one session | half its outbox | the socket is not read: the client feels TCP's pressure |
//! | the log's queue | 8,192 smiles | `overloaded`; by then the store's delay has usually shed |
//! | batches before the tail, of this replica and of the others | 16 each | appending, or reading the binary log, waits; the former counts as the store's delay and sheds |
//! | smiles that wait in the tail for those before them | 16,000 | nothing more is taken from what follows the log |
//! | a session's outbox | 256 | the session is *lagged* and catches up from the log |
//! | a socket's write buffer | 128 KiB | the session waits; after 10 s it is closed with 4000 |
//! | sessions, connections | `--max-sessions`, 2,048 | 503; the system's queue |
//!
//! # Many replicas
//!
//! MySQL is all that they share, and each of these works without the others:
//!
//! - **The head row** gives offsets, inside the appending transaction: that alone keeps the order. Replicas that append at
//!   the same time take turns before they ask for it, so that commits are fewer and larger.
//! - **The binary log** tells the tail of the others' commits, in their order and with their rows. Where that is not
//!   possible, or ends, the log is read instead, every few milliseconds; where it leaves something out, the gap is read.
//! - **The lease** is a row that each replica renews. One that does not is lost to all, and not ready. Each replica reads
//!   these rows four times a second, and answers questions about them from memory.
//! - **Handing over** is decided by each replica for itself, from the same rows: with `--rebalance on`, the fuller ones let
//!   a few sessions a second go.
//!
//! # Deliberately absent
//!
//! No broker, no cache, no sticky sessions, no peer-to-peer traffic: the store is all that replicas share. No trait over
//! the databases and no mock of them. No global state: several servers can live in one process, as they do in the tests.

pub mod check;
pub mod config;
pub mod http;
pub mod http_client;
pub mod hub;
pub mod index;
pub mod limits;
pub mod log;
pub mod model;
pub mod protocol;
pub mod replica;
pub mod retention;
pub mod server;
pub mod session;
pub mod simulate;
pub mod store;
pub mod tail;
pub mod telemetry;
