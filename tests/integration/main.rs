//! Everything that is tested over real sockets, in one binary.

mod durability;
mod frames;
mod limits;
mod malformed;
mod opening;
mod order;
mod resume;
mod slow;
mod support;
