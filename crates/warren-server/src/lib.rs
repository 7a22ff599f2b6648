//! HTTP to core and back: extract, one call of core, convert.
//!
//! | module | what |
//! |---|---|
//! | [`app`] | what handlers share |
//! | [`routes`] | the table of contents: every route |
//! | [`mod@serve`] | listeners, connections, and the end of them |
//! | `face` | what every request passes: identity, span, request id |
//! | `auth` | who asks |
//! | `origin` | which page of a browser asks, and by which name of the server |
//! | [`config`], `rate`, `streams` | how much of everything |
//! | `waiting` | connections from inside of sandboxes, until somebody takes them |
//! | [`edge`] | ports of sandboxes, by name |
//! | `certificates` | how those of the server are, and challenges |
//! | `rest` | the handlers of the native API |
//! | `e2b` | the control API of E2B's clients |
//! | [`openapi`] | the document that describes all of it |
//! | `metrics` | what is counted |
//! | `extract` | requests, with refusals in our envelope |
//! | `convert`, `error` | core's types as the API's |
//!
//! What is deliberately not here: decisions, backends, SQL.

pub mod app;
pub mod config;
pub mod edge;
pub mod openapi;
pub mod routes;
pub mod serve;

mod auth;
mod certificates;
mod convert;
mod e2b;
mod error;
mod extract;
mod face;
mod metrics;
mod origin;
mod rate;
mod rest;
mod streams;
mod waiting;

pub use app::{Activity, App};
pub use auth::{Access, OPEN};
pub use certificates::{CertificateReport, CertificateSource, CertificateState};
pub use config::Config;
pub use face::Face;
pub use serve::{Tls, TlsError, serve, serve_tcp};
