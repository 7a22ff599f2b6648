//! The gate through which connections of a sandbox pass where names, credentials or a proxy matter.
//!
//! It is given a stream that somebody accepted, the address which the sandbox meant, and a
//! [`Passport`]: what is known about that sandbox. It knows no sandbox, no packet filter and no
//! database; whoever redirects connections to it says who is who.
//!
//! | module | what |
//! |---|---|
//! | [`passport`] | the seam: what the gate asks about a sandbox, and what it tells |
//! | [`gate`] | [`Gate::serve`]: one connection from beginning to end |
//! | [`name`] | names of hosts, as they are compared |
//! | [`credentials`] | what is done to requests for some hosts |
//! | [`authority`] | who signs for those hosts inside of one sandbox |
//! | [`broker`] | requests of git, with the credential for one repository |
//! | [`mask`] | secrets hidden in what the other side answers |
//! | `peek` | what the first bytes of a connection say, without decrypting anything |
//! | `outside` | connecting to what the sandbox meant, through its proxy where it has one |
//! | `relay` | bytes in both directions, by `splice(2)` |
//! | `exchange` | HTTP requests that are looked at one by one, and changed |
//! | `intercept` | TLS in the place of a host that has credentials |
//!
//! # What whoever uses it must do
//!
//! * Redirect TCP to 80 and 443 here for sandboxes with rules about names or with credentials, and
//!   all TCP for those that have a proxy of their own; find the original destination and the
//!   sandbox by the source address.
//! * Bound the number of connections per sandbox: a connection costs at most eight descriptors.
//! * Remember which addresses were answered for which name, for [`Passport::decide`].
//! * Await [`Gate::serve`] in a task of its own. Dropping it closes both sides.
//!
//! Credentials are set where TLS proves who the other side is, so it does not matter which address
//! the sandbox connected to; without TLS a rule must say so, and [`Passport::answered`] is asked.
//!
//! The gate opens connections as the host does. [`Passport::reach`] is asked before every one, and
//! an address of the host itself is refused unless that says otherwise.

pub mod authority;
pub mod broker;
pub mod credentials;
pub mod gate;
pub mod mask;
pub mod name;
pub mod passport;

mod exchange;
mod intercept;
mod io;
mod outside;
mod peek;
mod refuse;
mod relay;
mod trust;

pub use authority::Authority;
pub use broker::{Broker, GitPassport};
pub use credentials::{Credentials, HostRule};
pub use gate::{Gate, GateConfig, Patience};
pub use name::HostName;
pub use outside::proxy::{Proxy, ProxyKind};
pub use passport::{Asked, Denied, Passport, Reach, Reason, Verdict};
pub use trust::TrustError;

/// Doors for fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use http::{Request, header};

    use crate::{HostName, exchange, peek::Peek};

    /// What the first bytes of a connection are, when so many of them come at once.
    #[must_use]
    pub fn first(bytes: &[u8], at_once: usize) -> Option<String> {
        let mut peek = Peek::default();
        let first = bytes.chunks(at_once.max(1)).find_map(|part| peek.push(part));
        first.map(|first| format!("{first:?}"))
    }

    /// The name that a request gives, which has this target and these hosts: `None` for one that
    /// is no request or contradicts itself.
    #[must_use]
    pub fn name(target: &str, hosts: &[&[u8]]) -> Option<Option<HostName>> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        exchange::naming::name(&request.body(()).ok()?).ok()
    }
}
