//! Everything that is tested over real sockets, in one binary.

mod architecture;
mod crash;
mod durability;
mod frames;
mod http;
mod leaving;
mod limits;
mod malformed;
mod opening;
mod order;
mod program;
mod resume;
mod retention;
mod simulator;
mod slow;
mod store;
mod story;
mod support;
