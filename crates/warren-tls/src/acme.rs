//! Certificates of an authority that speaks ACME: Let's Encrypt and others.
//!
//! [`Acme`] has a certificate for each group of names, and renews it at two thirds of its life. All
//! that must survive is in one directory per authority: the account, the certificates, and a
//! ledger that says how often was ordered and when to try again. So a server that is started again
//! and again orders nothing again and again.
//!
//! # Source
//!
//! RFC 8555 (ACME), RFC 8737 (TLS-ALPN-01).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls;

use crate::{
    dns::{Lookup, LookupError, RecordError, Records},
    parse::UnusableError,
};

mod answer;
pub(crate) mod client;
mod examine;
mod http;
mod ledger;
mod order;
mod renew;

pub use answer::Answers;
pub use examine::{Found, examine};
pub use http::serve as serve_answers;
pub use renew::{Acme, Status, Wanted};

/// How an authority is shown that a name is ours.
#[derive(Clone, Debug)]
pub enum Proof {
    /// HTTP-01: at port 80 of the name, see [`serve_answers`].
    Http,
    /// TLS-ALPN-01: at port 443 of the name, in the handshake.
    TlsAlpn,
    /// DNS-01: a record of the name, the only one for `*.` names.
    Dns(Arc<DnsProof>),
}

/// How records get into a zone and when they are there.
#[derive(Debug)]
pub struct DnsProof {
    /// Who changes them.
    pub records: Box<dyn Records>,
    /// Who looks whether they are there.
    pub lookup: Lookup,
    /// How long it may take until all servers of a zone know.
    pub within: Duration,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept: a directory of this module alone.
    pub directory: PathBuf,
    /// The authority's directory: an `https` address.
    pub url: String,
    /// A file of authorities in PEM that are trusted for that address, beside the host's.
    pub roots: Option<PathBuf>,
    /// Whom the authority may write to, such as `mailto:ops@example.com`.
    pub contact: Option<String>,
    /// How names are proved.
    pub proof: Proof,
    /// How many orders a week there may be.
    pub orders_per_week: u32,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// A file cannot be read or written.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// To which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A setting is of no use.
    #[error("{0}")]
    Setting(String),
    /// The TLS library cannot be set up.
    #[error("could not set up TLS")]
    Tls(#[source] rustls::Error),
    /// HTTP cannot be set up.
    #[error("could not set up HTTP")]
    Http(#[source] reqwest::Error),
    /// The authority refused or was not reached.
    #[error("the authority did not {operation}")]
    Authority {
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        #[source]
        source: Box<instant_acme::Error>,
    },
    /// The authority offers no proof of the kind that was chosen.
    #[error("the authority takes no {kind} for {name}")]
    NoChallenge {
        /// Which kind.
        kind: &'static str,
        /// For which name.
        name: String,
    },
    /// The authority looked for the proof, and it was not there or not right.
    #[error("the authority did not find that {name} is ours: {said}")]
    Unproved {
        /// Which name.
        name: String,
        /// Its words.
        said: String,
    },
    /// A record could not be changed.
    #[error("could not change the record of {name}")]
    Record {
        /// Which name.
        name: String,
        /// Why not.
        #[source]
        source: RecordError,
    },
    /// A record is not to be seen.
    #[error("the record cannot be seen")]
    Lookup(#[from] LookupError),
    /// A key or a request for a certificate could not be made.
    #[error("could not make a request for a certificate")]
    Make(#[source] rcgen::Error),
    /// What the authority gave is not what was asked for.
    #[error("the authority gave a certificate that is of no use")]
    Unusable(#[source] UnusableError),
    /// There were enough orders.
    #[error("there were {orders} orders in a week, which is the limit")]
    Limit {
        /// How many.
        orders: u32,
    },
    /// It took too long.
    #[error("it took longer than {} s", .0.as_secs())]
    Late(Duration),
}

impl AcmeError {
    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    fn authority(operation: &'static str) -> impl FnOnce(instant_acme::Error) -> Self {
        move |source| Self::Authority { operation, source: Box::new(source) }
    }
}

/// An error with all its causes, as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text.chars().filter(|it| !it.is_control()).take(500).collect()
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
            Self::Dns(_) => "dns-01",
        })
    }
}
