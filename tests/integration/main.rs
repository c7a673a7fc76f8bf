//! Everything that is tested over real sockets, in one binary.

mod browser;
mod readme;
mod simulator;
mod support;
mod wscat;
