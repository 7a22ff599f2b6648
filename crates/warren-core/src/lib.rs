//! What a sandbox is: its identity, its specification, its states, its limits and its lifetime.
//!
//! Core decides. It performs no I/O on the host other than its database and the byte streams that
//! a [`runtime::Runtime`] opens for it, and it knows no backend by name.

pub mod id;
pub mod runtime;
pub mod spec;
