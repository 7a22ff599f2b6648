//! What the gate asks about a sandbox, and what it tells about its connections.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{credentials::Credentials, name::HostName, outside::proxy::Proxy};

/// What is known about the sandbox that a connection comes from.
///
/// Every question is asked anew for every connection (and request, where requests are looked at),
/// so that a change of the rules holds from the next one on. Answers come from memory: nothing may
/// wait.
pub trait Passport: fmt::Debug + Send + Sync + 'static {
    /// Whether the name can make a difference for this destination: a rule about names could
    /// match, or there are credentials for some host.
    ///
    /// Where not, nothing is read before the connection is made, and protocols in which the server
    /// speaks first work at once.
    fn needs_name(&self, destination: SocketAddr) -> bool;

    /// Whether the connection may be.
    ///
    /// A name that is allowed by a rule about names counts only for an address that was answered
    /// for that name, and as long as the answer lives ([`Asked::established`] excepted).
    fn decide(&self, asked: &Asked<'_>) -> Verdict;

    /// Whether an address may be reached at all, whatever the rules say.
    fn reach(&self, address: IpAddr) -> Reach;

    /// What is done to requests for some hosts. [`Passport::needs_name`] says yes where there is
    /// any, for the ports on which such hosts are asked.
    fn credentials(&self) -> Option<Arc<Credentials>> {
        None
    }

    /// The proxy that every connection goes through, where the sandbox has one. The proxy itself is
    /// reached only where [`Passport::reach`] says so.
    fn proxy(&self) -> Option<Arc<Proxy>> {
        None
    }

    /// Whether the sandbox was given this address when it asked for this name, and the answer
    /// lives. Asked before a secret is sent without TLS, and before a proxy is
    /// told a name; where nobody remembers, neither is done.
    fn answered(&self, _name: &HostName, _address: IpAddr) -> bool {
        false
    }

    /// Sees every change of what the other questions are answered. Connections there are then
    /// decided anew; those that may not be any more are cut.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Is told about what was refused.
    fn denied(&self, denied: Denied);

    /// Is told about bytes that the sandbox sent and received, often while a connection lasts.
    fn count(&self, sent_bytes: u64, received_bytes: u64);
}

/// A connection that a sandbox wants, or has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// What the sandbox calls the other side; `None` where it does not say, or hides it.
    pub name: Option<&'a HostName>,
    /// The address that the sandbox connected to.
    pub destination: SocketAddr,
    /// Whether the connection is there already and only the rules have changed: an answer for the
    /// name need not live any more.
    pub established: bool,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the connection may be.
    pub allowed: bool,
    /// The place of the rule that decided, from 0; `None` where none matched.
    pub rule: Option<usize>,
}

/// How an address may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not at all: a private range, another sandbox, a metadata service.
    No,
    /// As everything on the internet. The gate itself looks whether it is the host after all.
    Public,
    /// The operator named it: even if it is the host's own.
    Granted,
}

/// A connection or a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What the sandbox called the other side, as far as it could be read.
    pub name: Option<HostName>,
    /// Where it wanted to go.
    pub destination: SocketAddr,
    /// The rule that decided, where one did.
    pub rule: Option<usize>,
    /// Why.
    pub reason: Reason,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The rules do not allow it.
    Rule,
    /// The rules are about names, and the sandbox gave none.
    NoName,
    /// The rules are about names, and the sandbox hides the real one (encrypted client hello).
    HiddenName,
    /// The names in one request contradict each other.
    Contradiction,
    /// A credential rule of the host does not let the method pass.
    Method,
    /// A credential rule of the host does not let the path pass.
    Path,
    /// No sandbox may reach the address: it is private, another sandbox, or the host.
    Unreachable,
    /// The rules have changed while the connection was there.
    Changed,
    /// There are too many connections of the sandbox at once.
    TooMany,
}

impl Reason {
    /// The reason as a phrase for people: `the rules do not allow it`.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Rule => "the rules of this sandbox do not allow it",
            Self::NoName => "the rules of this sandbox are about names, and none was given",
            Self::HiddenName => {
                "the rules of this sandbox are about names, and this one is hidden (ECH)"
            }
            Self::Contradiction => "the names in the request contradict each other",
            Self::Method => "the rule for this host does not let the method pass",
            Self::Path => "the rule for this host does not let the path pass",
            Self::Unreachable => "no sandbox may reach this address",
            Self::Changed => "the rules of this sandbox have changed",
            Self::TooMany => "this sandbox has too many connections at once",
        }
    }
}
