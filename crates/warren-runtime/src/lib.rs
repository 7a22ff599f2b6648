//! To be filled.

pub mod net;
