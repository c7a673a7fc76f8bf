//! Everything that is tested over real sockets, in one binary.

mod simulator;
mod support;
