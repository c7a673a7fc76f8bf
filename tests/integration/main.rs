//! Everything that is tested over real sockets, in one binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod readme;
mod simulator;
mod support;
mod wscat;
