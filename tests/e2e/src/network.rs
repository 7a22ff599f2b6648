//! What sandboxes reach: tried from inside of them, on a host with an internet of its own.

mod change;
mod names;
mod open;
mod reachable;
mod rules;
mod six;
mod told;
mod user;
