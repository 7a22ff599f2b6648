//! What a sandbox may reach, as rules, and what they decide.
//!
//! Nothing here touches a packet: a policy is read from text, asked about a destination, and
//! explained. A runtime enforces it.
//!
//! Rules are ordered and the first that matches decides; where none does, [`Egress::otherwise`].
//! A rule that names a domain needs more than an address to match: a connection is to a name only
//! if the sandbox was given that address for that name ([`Attempt::proven`]), else every address
//! could be reached by lying about the name.
//!
//! Before all rules stand the networks that no sandbox reaches ([`reserved`]): the host, private
//! ranges, link-local and metadata addresses, other sandboxes.

use std::{fmt, net::IpAddr, str::FromStr};

mod address;
mod closed;
mod explain;
mod rule;
#[cfg(test)]
mod tests;

pub use address::{InvalidNetwork, Network as IpNetwork, reserved};
pub use closed::Closure;
pub use explain::{Explanation, Question, Reason};
pub use rule::{Domain, InvalidRule, PortRange, Ports, Protocol, Rule, Target};

/// How many rules a policy may have.
pub const MOST_RULES: usize = 256;
/// The least bandwidth that can be asked for, in bytes per second: what lets a connection be made.
pub const LEAST_BANDWIDTH: u64 = 1024;
/// The most, in bytes per second.
pub const MOST_BANDWIDTH: u64 = 1 << 40;

/// What is done with a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may be made.
    Allow,
    /// It is refused.
    #[default]
    Deny,
}

impl Action {
    /// The word for it in rules and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What the rules are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They are enforced.
    #[default]
    Enforce,
    /// What they deny is told and happens all the same.
    DryRun,
    /// Nothing is denied; what is reached is noted, to make rules of.
    Learn,
}

impl Mode {
    /// The word for it in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::DryRun => "dry_run",
            Self::Learn => "learn",
        }
    }
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Egress {
    /// What the rules are for.
    pub mode: Mode,
    /// In order; the first that matches decides. At most [`MOST_RULES`].
    pub rules: Vec<Rule>,
    /// What becomes of what no rule matches.
    pub otherwise: Action,
    /// How fast the sandbox may send and receive.
    pub bandwidth: Bandwidth,
}

/// Limits of speed, in bytes per second; none for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// From the sandbox.
    pub up: Option<u64>,
    /// To the sandbox.
    pub down: Option<u64>,
}

/// Something that a sandbox would reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The name it says it wants, in lower case and without a dot at the end.
    pub name: Option<&'a str>,
    /// Whether the sandbox was given `address` when it asked for `name`.
    pub proven: bool,
    /// The address; none where only the name is known yet.
    pub address: Option<IpAddr>,
    /// TCP, UDP or ICMP; [`Protocol::Any`] for any other.
    pub protocol: Protocol,
    /// The port; none for what has none.
    pub port: Option<u16>,
}

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be.
    pub allowed: bool,
    /// The place of the rule that says so, from 0; none where no rule matched.
    pub rule: Option<usize>,
}

impl Egress {
    /// Whether any rule names a domain: then names decide, and every way around them is closed.
    #[must_use]
    pub fn has_domains(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.to, Target::Domain(_)))
    }

    /// What the rules say about a connection, whatever the mode is; [`Egress::enforced`] is what
    /// becomes of it.
    #[must_use]
    pub fn decide(&self, attempt: &Attempt<'_>) -> Verdict {
        self.first(|rule| rule.matches(attempt))
    }

    /// Whether a name is looked up for the sandbox. One that nothing could be reached by is not:
    /// a question is a way to carry data out.
    #[must_use]
    pub fn may_ask(&self, name: &str) -> Verdict {
        self.first(|rule| match (rule.action, &rule.to) {
            (Action::Allow, Target::Any) => true,
            (Action::Deny, Target::Any) => rule.is_for_everything(),
            (Action::Allow, Target::Domain(domain)) => domain.contains(name),
            (Action::Deny, Target::Domain(domain)) => {
                rule.is_for_everything() && domain.contains(name)
            }
            (_, Target::Net(_)) => false,
        })
    }

    fn first(&self, matches: impl Fn(&Rule) -> bool) -> Verdict {
        let found = self.rules.iter().enumerate().find(|(_, rule)| matches(rule));
        let action = found.map_or(self.otherwise, |(_, rule)| rule.action);
        Verdict { allowed: action == Action::Allow, rule: found.map(|(place, _)| place) }
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    ///
    /// A sentence for the caller.
    pub fn check(&self) -> Result<(), String> {
        if self.rules.len() > MOST_RULES {
            return Err(format!("at most {MOST_RULES} rules are possible"));
        }
        for speed in [self.bandwidth.up, self.bandwidth.down].into_iter().flatten() {
            if !(LEAST_BANDWIDTH..=MOST_BANDWIDTH).contains(&speed) {
                return Err(format!(
                    "a bandwidth is {LEAST_BANDWIDTH} to {MOST_BANDWIDTH} bytes per second"
                ));
            }
        }
        Ok(())
    }
}

/// One line each: `mode`, the rules in order, `otherwise`, and the bandwidth where it is limited.
/// This is how policies are stored; [`FromStr`] reads it.
impl fmt::Display for Egress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "mode {}", self.mode.word())?;
        for rule in &self.rules {
            writeln!(out, "{} {}", rule.action.word(), rule)?;
        }
        writeln!(out, "otherwise {}", self.otherwise.word())?;
        for (word, speed) in [("up", self.bandwidth.up), ("down", self.bandwidth.down)] {
            if let Some(speed) = speed {
                writeln!(out, "{word} {speed}")?;
            }
        }
        Ok(())
    }
}

/// A stored policy cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEgress {
    /// A line is none.
    #[error("`{line}` is no line of a network policy")]
    Line {
        /// The line.
        line: String,
    },
    /// A rule is none.
    #[error(transparent)]
    Rule(#[from] InvalidRule),
}

impl FromStr for Egress {
    type Err = InvalidEgress;

    fn from_str(text: &str) -> Result<Self, InvalidEgress> {
        let mut egress = Self::default();
        for line in text.lines() {
            let unclear = || InvalidEgress::Line { line: line.to_owned() };
            let (word, rest) = line.split_once(' ').ok_or_else(unclear)?;
            match word {
                "mode" => egress.mode = mode(rest).ok_or_else(unclear)?,
                "allow" => egress.rules.push(Rule::parse(Action::Allow, rest)?),
                "deny" => egress.rules.push(Rule::parse(Action::Deny, rest)?),
                "otherwise" => egress.otherwise = action(rest).ok_or_else(unclear)?,
                "up" => egress.bandwidth.up = Some(rest.parse().map_err(|_nan| unclear())?),
                "down" => egress.bandwidth.down = Some(rest.parse().map_err(|_nan| unclear())?),
                _ => return Err(unclear()),
            }
        }
        Ok(egress)
    }
}

fn mode(word: &str) -> Option<Mode> {
    [Mode::Enforce, Mode::DryRun, Mode::Learn].into_iter().find(|mode| mode.word() == word)
}

fn action(word: &str) -> Option<Action> {
    [Action::Allow, Action::Deny].into_iter().find(|action| action.word() == word)
}
