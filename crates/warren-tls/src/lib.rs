//! Certificates of the server: where they come from, how they are kept and renewed, and which one
//! a client is shown.
//!
//! | module | what is in it |
//! |---|---|
//! | [`choose`] | which certificate a client gets, by the name it asks for |
//! | [`local`] | the authority of this machine alone, for development |
//! | [`acme`] | certificates of an authority that speaks ACME: orders, challenges, renewal |
//! | [`dns`] | questions to name servers, and records for a challenge |
//! | [`keep`] | private files, whole or not there |
//! | [`program`] | programs of the operator's that are asked for something |
//!
//! Nothing here knows of sandboxes, prints, or reads the environment.

pub mod choose;

pub mod local;

pub mod acme;

pub mod dns;

pub mod keep;

pub mod program;

mod clock;
mod parse;

pub use choose::Certificates;
pub use clock::now;
pub use local::is_domain;
pub use parse::Validity;
