//! One rule: `[tcp://|udp://|icmp://]TARGET[:PORTS]`.
//!
//! The target is `*` for anything, an address or a network (one of IPv6 in brackets where ports
//! follow), a name, or `*.name` for every name below it. Ports are numbers and ranges with commas:
//! `443`, `80,443,8000-8999`.

use std::{fmt, net::IpAddr};

use super::{Action, Attempt, IpNetwork, address::InvalidNetwork};

/// How many ranges of ports a rule may have.
const MOST_PORTS: usize = 16;

/// A kind of packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Every kind.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

impl Protocol {
    /// The word for it in rules and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// For which destinations.
    pub to: Target,
    /// For which kind of packets.
    pub protocol: Protocol,
    /// For which ports.
    pub ports: Ports,
}

/// Where a rule applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Everywhere.
    Any,
    /// In a network.
    Net(IpNetwork),
    /// At the addresses of names.
    Domain(Domain),
}

/// A name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    name: String,
    below: bool,
}

/// Ranges of ports, in order and apart from each other; none for every port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports(Vec<PortRange>);

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// Not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// What stands before `://` is no protocol.
    #[error(
        "`{text}`: expected tcp://, udp:// or icmp:// before a host; a rule names hosts, not URLs"
    )]
    Protocol {
        /// The rule.
        text: String,
    },
    /// What it applies to is neither network nor name.
    #[error("`{text}`: expected *, an address, a network such as 192.0.2.0/24, a name or *.name")]
    Target {
        /// The rule.
        text: String,
    },
    /// The network is none.
    #[error(transparent)]
    Network(#[from] InvalidNetwork),
    /// The ports are none.
    #[error("`{text}`: expected ports such as 443 or 80,8000-8999, at most {MOST_PORTS} ranges")]
    Ports {
        /// The rule.
        text: String,
    },
    /// ICMP has no ports.
    #[error("`{text}`: icmp has no ports")]
    NoPorts {
        /// The rule.
        text: String,
    },
}

impl Rule {
    /// Reads a rule; see the module for how it is written.
    ///
    /// # Errors
    ///
    /// [`InvalidRule`], a sentence for whoever wrote it.
    pub fn parse(action: Action, text: &str) -> Result<Self, InvalidRule> {
        let (protocol, rest) = match text.split_once("://") {
            None => (Protocol::Any, text),
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            Some(("icmp", rest)) => (Protocol::Icmp, rest),
            Some(_) => return Err(InvalidRule::Protocol { text: text.to_owned() }),
        };
        let (target, ports) = split(rest);
        let to = target_of(target, text)?;
        let ports = match ports {
            Some(_) if protocol == Protocol::Icmp => {
                return Err(InvalidRule::NoPorts { text: text.to_owned() });
            }
            Some(ports) => {
                Ports::parse(ports).ok_or_else(|| InvalidRule::Ports { text: text.to_owned() })?
            }
            None => Ports::default(),
        };
        Ok(Self { action, to, protocol, ports })
    }

    /// Whether it is about this.
    pub(super) fn matches(&self, attempt: &Attempt<'_>) -> bool {
        self.is_for_packets_of(attempt) && self.is_about(attempt)
    }

    /// Whether it is about such packets, wherever they go.
    pub(super) fn is_for_packets_of(&self, attempt: &Attempt<'_>) -> bool {
        let protocol = self.protocol == Protocol::Any || self.protocol == attempt.protocol;
        // What has no port is not reached at one.
        let port = self.ports.is_all() || attempt.port.is_some_and(|it| self.ports.contain(it));
        protocol && port
    }

    fn is_about(&self, attempt: &Attempt<'_>) -> bool {
        match &self.to {
            Target::Any => true,
            Target::Net(network) => attempt.address.is_some_and(|it| network.contains(it)),
            Target::Domain(domain) => {
                let named = attempt.name.is_some_and(|name| domain.contains(name));
                // A lie about the name opens nothing, and closes what it says.
                named && (attempt.proven || self.action == Action::Deny)
            }
        }
    }

    /// Whether neither protocol nor port limits it.
    #[must_use]
    pub fn is_for_everything(&self) -> bool {
        self.protocol == Protocol::Any && self.ports.is_all()
    }
}

/// Target and ports of a rule's text without its protocol.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some((target, rest)) = text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        return (target, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest)));
    }
    match text.split_once(':') {
        // More than one colon is an address of IPv6 without ports.
        Some((target, ports)) if !ports.contains(':') => (target, Some(ports)),
        _ => (text, None),
    }
}

fn target_of(target: &str, text: &str) -> Result<Target, InvalidRule> {
    if target == "*" {
        return Ok(Target::Any);
    }
    let unclear = || InvalidRule::Target { text: text.to_owned() };
    if target.contains(['/', ':']) || target.parse::<IpAddr>().is_ok() {
        return Ok(Target::Net(target.parse()?));
    }
    let (name, below) = match target.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (target, false),
    };
    let name = normal_name(name).ok_or_else(unclear)?;
    // `1.2.3.400` is an address with a mistake in it.
    let numeric = name.rsplit('.').next().is_none_or(|it| it.bytes().all(|b| b.is_ascii_digit()));
    if numeric { Err(unclear()) } else { Ok(Target::Domain(Domain { name, below })) }
}

/// A name in lower case without a dot at its end; none where it is no name.
pub(super) fn normal_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let good = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
    (name.len() <= 253 && name.split('.').all(good)).then(|| name.to_ascii_lowercase())
}

impl Domain {
    /// The name, in lower case and without a dot at its end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the names below that are meant, and not the name itself.
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.below
    }

    /// Whether a name, in lower case and without a dot at its end, is meant.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self.below {
            false => name == self.name,
            true => name
                .strip_suffix(self.name.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl Ports {
    /// Whether every port is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a port is meant.
    #[must_use]
    pub fn contain(&self, port: u16) -> bool {
        self.is_all() || self.0.iter().any(|it| (it.first..=it.last).contains(&port))
    }

    /// The ranges, in order and apart from each other; empty for every port.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(PortRange { first, last })
        };
        let mut ranges = text.split(',').map(range).collect::<Option<Vec<_>>>()?;
        if ranges.len() > MOST_PORTS {
            return None;
        }
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Some(Self(merged))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol != Protocol::Any {
            write!(out, "{}://", self.protocol.word())?;
        }
        match &self.to {
            Target::Any => write!(out, "*")?,
            Target::Net(network) if network.address().is_ipv6() && !self.ports.is_all() => {
                write!(out, "[{network}]")?;
            }
            Target::Net(network) => write!(out, "{network}")?,
            Target::Domain(domain) => write!(out, "{domain}")?,
        }
        if self.ports.is_all() { Ok(()) } else { write!(out, ":{}", self.ports) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, PortRange { first, last }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match first == last {
                true => write!(out, "{comma}{first}")?,
                false => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
