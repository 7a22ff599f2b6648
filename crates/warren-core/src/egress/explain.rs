//! Why a sandbox reaches something, or does not.

use std::net::IpAddr;

use super::{Attempt, Closure, Egress, Mode, Protocol, reserved, rule::normal_name};
use crate::spec::Network;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, in lower case and without a dot at its end.
    pub name: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The kind of packet.
    pub protocol: Protocol,
    /// The port; none for any.
    pub port: Option<u16>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is reached.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// Why something is reached or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The sandbox has no network.
    NoNetwork,
    /// The sandbox reaches the whole Internet.
    Open,
    /// No sandbox reaches such addresses.
    Reserved(&'static str),
    /// The operator lets every sandbox reach it.
    Operator,
    /// This rule, by its place from 0.
    Rule(usize),
    /// No rule is about it.
    Otherwise,
    /// The name is not looked up, for no rule allows anything by it; the rule that says so, where
    /// one does.
    NotAnswered(Option<usize>),
    /// The rules are about names, and this is a way around them.
    Closed(Closure),
    /// Requests of this sandbox are given credentials, or a proxy carries its connections, and this
    /// would pass them by.
    PassesBy,
    /// What the rules would deny happens: they are not enforced. What they say themselves.
    NotEnforced(Box<Reason>),
}

impl Question {
    /// A question about a host: a name or an address.
    ///
    /// # Errors
    ///
    /// What was expected, where it is neither.
    pub fn about(host: &str, protocol: Protocol, port: Option<u16>) -> Result<Self, String> {
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(Self { name: None, address: Some(address), protocol, port });
        }
        match normal_name(host) {
            Some(name) => Ok(Self { name: Some(name), address: None, protocol, port }),
            None => Err(format!("`{host}`: expected a name or an address")),
        }
    }
}

impl Network {
    /// What becomes of a connection, as far as the policy alone says.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        if let Some(what) = question.address.and_then(reserved) {
            return Explanation { allowed: false, reason: Reason::Reserved(what) };
        }
        match self {
            Self::None => Explanation { allowed: false, reason: Reason::NoNetwork },
            Self::Open => Explanation { allowed: true, reason: Reason::Open },
            Self::Rules(egress) => egress.explain(question),
        }
    }
}

impl Egress {
    /// What becomes of a connection that is not to a reserved address, or to one that the operator
    /// lets be reached.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let said = self.said(question);
        match self.mode {
            Mode::Enforce => said,
            Mode::DryRun | Mode::Learn if said.allowed => said,
            Mode::DryRun | Mode::Learn => {
                Explanation { allowed: true, reason: Reason::NotEnforced(Box::new(said.reason)) }
            }
        }
    }

    /// What the rules say, enforced or not.
    fn said(&self, question: &Question) -> Explanation {
        let name = question.name.as_deref();
        if let (Some(name), None) = (name, question.address) {
            let asked = self.may_ask(name);
            if !asked.allowed {
                return Explanation { allowed: false, reason: Reason::NotAnswered(asked.rule) };
            }
            if self.is_hiding(name, asked) {
                let reason = Reason::Closed(Closure::ResolverName);
                return Explanation { allowed: false, reason };
            }
        }
        let attempt = Attempt {
            name,
            proven: true,
            address: question.address,
            protocol: question.protocol,
            port: question.port,
        };
        let verdict = self.decide(&attempt);
        if let Some(closure) = self.closure(&attempt, verdict) {
            return Explanation { allowed: false, reason: Reason::Closed(closure) };
        }
        let reason = verdict.rule.map_or(Reason::Otherwise, Reason::Rule);
        Explanation { allowed: verdict.allowed, reason }
    }
}
