//! The ways around names, which are closed as soon as a rule names a domain.
//!
//! A rule about a name is worth nothing where the name cannot be seen: then whoever wants another
//! takes a way on which nobody looks. So these ways are closed, and a rule that allows an address
//! or everything does not open them.

use super::{Action, Attempt, Egress, Protocol, Target, Verdict};

/// A way around names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure {
    /// HTTP/3, of which the names are not looked at.
    Http3,
    /// A resolver other than the sandbox's own.
    Resolver,
    /// The name of a public resolver, which is asked by HTTPS. A rule that allows this very name
    /// opens it.
    ResolverName,
    /// A connection to 80 or 443 that gives no name, or hides it, where it could be one that a rule
    /// denies.
    NoName,
}

/// Names by which programs reach resolvers that nobody else sees.
const RESOLVERS: [&str; 12] = [
    "chrome.cloudflare-dns.com",
    "cloudflare-dns.com",
    "dns.adguard-dns.com",
    "dns.google",
    "dns.nextdns.io",
    "dns.quad9.net",
    "dns64.dns.google",
    "doh.opendns.com",
    "mozilla.cloudflare-dns.com",
    "one.one.one.one",
    "security.cloudflare-dns.com",
    "use-application-dns.net",
];
/// The ports of resolvers.
const RESOLVER_PORTS: [u16; 2] = [53, 853];
/// The ports on which names are looked at.
const LOOKED_AT: [u16; 2] = [80, 443];

impl Egress {
    /// What becomes of a connection when the rules are enforced: what they say, and never a way
    /// around names.
    #[must_use]
    pub fn enforced(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = self.decide(attempt);
        match self.closure(attempt, verdict) {
            Some(_) => Verdict { allowed: false, rule: None },
            None => verdict,
        }
    }

    /// Whether a name is that of a public resolver, which is not for the sandbox although this
    /// verdict lets it have it.
    #[must_use]
    pub fn is_hiding(&self, name: &str, verdict: Verdict) -> bool {
        let rule = verdict.rule.and_then(|place| self.rules.get(place));
        let is_named = rule.is_some_and(|rule| match &rule.to {
            Target::Domain(domain) => !domain.is_below(),
            _ => false,
        });
        self.has_domains() && verdict.allowed && !is_named && RESOLVERS.contains(&name)
    }

    /// The way around names that a connection would be, which these rules allow.
    pub(super) fn closure(&self, attempt: &Attempt<'_>, verdict: Verdict) -> Option<Closure> {
        if !self.has_domains() || !verdict.allowed {
            return None;
        }
        if attempt.name.is_some_and(|name| self.is_hiding(name, verdict)) {
            return Some(Closure::ResolverName);
        }
        let port = attempt.port?;
        match attempt.protocol {
            Protocol::Udp if port == 443 => Some(Closure::Http3),
            Protocol::Icmp => None,
            _ if RESOLVER_PORTS.contains(&port) => Some(Closure::Resolver),
            Protocol::Tcp | Protocol::Any if LOOKED_AT.contains(&port) => {
                self.may_be_denied(attempt, verdict).then_some(Closure::NoName)
            }
            _ => None,
        }
    }

    /// Whether a connection without a name may be to one that a rule denies. A rule that allows its
    /// address, or everything, has said that it does not matter.
    fn may_be_denied(&self, attempt: &Attempt<'_>, verdict: Verdict) -> bool {
        let denies = |rule: &super::Rule| {
            rule.action == Action::Deny
                && matches!(rule.to, Target::Domain(_))
                && rule.is_for_packets_of(attempt)
        };
        attempt.name.is_none() && verdict.rule.is_none() && self.rules.iter().any(denies)
    }
}
