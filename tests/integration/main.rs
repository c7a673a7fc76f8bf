//! Everything that is tested over real sockets, in one binary.

mod frames;
mod malformed;
mod opening;
mod support;
