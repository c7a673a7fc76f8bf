//! Everything that is tested over real sockets, in one binary.

mod browser;
mod simulator;
mod support;
