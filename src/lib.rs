//! TheSmilingChat: one ordered, durable log of smiles, and the sessions that live on it.
//!
//! # Bird's eye view
//!
//! Simulated **users** live in a **store**. A **smile** is one message from one user to another. Every smile is appended
//! to one **log** in the store, where it gets its **offset**. Each replica publishes the log in order: the **hub** pushes
//! each publication to the **sessions** of its two users, and each session sends it on its socket. The log is the only way
//! to receive, for the sender's ack too, so order, completeness and resuming are decided in one place. A client that loses
//! its replica, however that died, reconnects to any replica with the highest offset it has seen, and goes on: nothing
//! lost, nothing twice, nothing out of order.
//!
//! The log is a table of **batches**: one commit, one row. It is the truth and cheap to append to. Everything else is
//! derived from it later and in bulk: the **index**, which answers for streams, histories and old ids.
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
//! log: judge the ids, one batch of every smile waiting, one row         hub.publish   (encoded once)
//!   | COMMIT = durable                                                      ^
//!   +--> in memory ---------------------------------------------------> tail: every offset once, in order
//!   +--> the store's log of batches --- the follower of each replica ------^
//!                     |
//!                     v  a segment of 4,096 smiles at a time
//!              the index: where the smiles of each conversation are, and which ids are stored where
//! ```
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
//! 1. Offsets become visible in order: once a reader has seen n, nothing below n appears later. A batch is taken only right
//!    after the batch that its replica takes for the last one ([`store`]).
//! 2. The tail publishes every offset once, in order, whoever brings it ([`tail`]).
//! 3. A session subscribes before it reads what it missed, and the cursor moves before a batch is pushed, so that
//!    nothing falls between ([`session`], [`tail::Tail::cursor`]).
//! 4. An id is judged once, before its batch is written, against all of the log up to the offset that the batch follows
//!    ([`log`], [`index`]).
//! 5. The index says nothing that the log does not say. It may be behind, by a bounded number of smiles, which are in memory
//!    ([`index`]).
//! 6. Every queue has a bound and a named outcome when full (see below). Nothing blocks the hub.
//! 7. Ready means: lease held where a store is shared, tail close to the head and hearing of it, not draining. Liveness asks no database
//!    ([`replica`]).
//! 8. The lease expires by the database's clock, and so does a smile ([`store`]).
//! 9. A vital task that ends ends the process: it never limps on ([`server`]). That includes a log that is another one than
//!    the one that was published ([`tail`], [`log`]).
//! 10. What registers something is a guard, and removes it on drop ([`hub::Subscription`]).
//!
//! # Queues
//!
//! | queue | bound | when full |
//! |---|---|---|
//! | smiles in flight of one session | 128 | the socket is not read: the client feels TCP's pressure |
//! | the log's queue | 8,192 smiles | `overloaded`; by then the store's delay has usually shed |
//! | smiles that are not indexed | 40,000 | appending waits for the index, which counts as the store's delay and sheds |
//! | indexed smiles in memory | 65,536 | the oldest are forgotten |
//! | a session's outbox | 256 publications | the session is *lagged* and catches up from the log |
//! | a socket's write buffer | 128 KiB | the session waits; after 10 s it is closed with 4000 |
//! | sessions, connections | `--max-sessions`, 2,048, fewer where the limit of open files is low | 503; the system's queue |
//!
//! # Many replicas
//!
//! MySQL is all that they share, and each of these works without the others:
//!
//! - **The key of a batch** is its first offset, so of all batches that follow one offset exactly one is taken: that alone
//!   keeps the order. A replica that comes second reads the batches before its own and appends again. Replicas that append
//!   at the same time take turns, so that commits are fewer and larger.
//! - **The binary log** tells the tail of other replicas' commits, in their order and with their rows. Where that is not
//!   possible, or ends, the log is read instead, every few milliseconds; where it leaves something out, the gap is read.
//! - **The index** is written by one replica at a time, and by another one within seconds when that dies or freezes.
//! - **The lease** is a row that each replica renews. A replica that does not is lost to the others, and not ready.
//! - **Balance** is struck by each replica for itself, from the same list, where `--rebalance on` says that a proxy leads
//!   clients to all of them: the fuller hand over a few sessions a second.
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
