//! The integration tests, in one binary. Most of them use real sockets.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accessibility;
mod architecture;
mod arguments;
mod audience;
mod browser;
mod crash;
mod dashboard;
mod documents;
mod drain;
mod durability;
mod failover;
mod faults;
mod following;
mod frames;
mod frontend;
mod http;
mod layout;
mod limits;
mod malformed;
mod odd_page;
mod opening;
mod order;
mod outage;
mod program;
mod rebalance;
mod replicas;
mod resume;
mod retention;
mod simulator;
mod slow;
mod sqlite;
mod story;
mod support;
mod wscat;
