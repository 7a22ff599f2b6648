//! Dockerfiles and lists of steps: what is understood, and what is said where something is not.

mod parse;
mod plan;
mod shipped;
