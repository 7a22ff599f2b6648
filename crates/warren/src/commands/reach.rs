//! The flags that say what a sandbox may reach, shared by the commands that set it.

use std::path::PathBuf;

use clap::ValueEnum;
use warren_api::network::{Network, NetworkRule, NetworkRules, Reach, RuleAction, RulesMode};

use crate::{config::Size, error::CliError};

/// What the sandbox may reach.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct ReachArgs {
    /// What it may reach; with rules, what becomes of what none of them is about
    #[arg(long, value_name = "open|off")]
    network: Option<NetworkArg>,
    /// What it may reach: `[tcp://|udp://|icmp://]HOST[:PORTS]`, where the host is a name,
    /// `*.name`, an address, a network or `*`; may be repeated. Without `--network` it reaches
    /// nothing else
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// What it may not reach, where no `--allow` is about it; may be repeated
    #[arg(long, value_name = "RULE")]
    deny: Vec<String>,
    /// A file of rules in order, one on each line: `allow RULE` or `deny RULE`
    #[arg(long, value_name = "PATH", conflicts_with_all = ["allow", "deny"])]
    rules: Option<PathBuf>,
    /// Whether the rules are enforced, tried (what they deny is told and happens), or learned
    #[arg(long, value_name = "enforce|dry-run|learn")]
    rules_mode: Option<ModeArg>,
    /// How much it may send in a second, such as `10MiB`
    #[arg(long, value_name = "SIZE")]
    upload_rate: Option<Size>,
    /// How much it may receive in a second
    #[arg(long, value_name = "SIZE")]
    download_rate: Option<Size>,
}

/// [`Reach`], as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    /// The internet, and nothing near.
    Open,
    /// Its own loopback alone.
    #[value(alias = "none")]
    Off,
}

/// [`RulesMode`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Enforced.
    Enforce,
    /// Told.
    DryRun,
    /// Learned.
    Learn,
}

impl ReachArgs {
    /// The network that these flags describe; none where they say nothing.
    pub(super) fn network(&self) -> Result<Option<Network>, CliError> {
        let rules = self.all_rules()?;
        let limited = self.upload_rate.is_some() || self.download_rate.is_some();
        if rules.is_empty() && !limited && self.rules_mode.is_none() {
            return Ok(self.network.map(|network| match network {
                NetworkArg::Open => Network::Word(Reach::Open),
                NetworkArg::Off => Network::Word(Reach::None),
            }));
        }
        let allows = rules.iter().any(|rule| rule.action == RuleAction::Allow);
        let otherwise = match self.network {
            Some(NetworkArg::Open) => RuleAction::Allow,
            Some(NetworkArg::Off) => RuleAction::Deny,
            // Who names what is allowed means nothing else; who does not, means all else.
            None if allows => RuleAction::Deny,
            None => RuleAction::Allow,
        };
        Ok(Some(Network::Rules(NetworkRules {
            mode: match self.rules_mode {
                None | Some(ModeArg::Enforce) => RulesMode::Enforce,
                Some(ModeArg::DryRun) => RulesMode::DryRun,
                Some(ModeArg::Learn) => RulesMode::Learn,
            },
            rules,
            otherwise,
            up_bytes_per_second: self.upload_rate.map(|it| it.0),
            down_bytes_per_second: self.download_rate.map(|it| it.0),
        })))
    }

    fn all_rules(&self) -> Result<Vec<NetworkRule>, CliError> {
        if let Some(path) = &self.rules {
            let text =
                std::fs::read_to_string(path).map_err(CliError::local("read the file of rules"))?;
            return text.lines().filter_map(|line| from_line(line).transpose()).collect();
        }
        let rule = |action| move |to: &String| NetworkRule { action, to: to.clone() };
        let allowed = self.allow.iter().map(rule(RuleAction::Allow));
        Ok(allowed.chain(self.deny.iter().map(rule(RuleAction::Deny))).collect())
    }
}

/// A rule of a file; none for an empty line and for one that begins with `#`.
fn from_line(line: &str) -> Result<Option<NetworkRule>, CliError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let action = match line.split_once(char::is_whitespace) {
        Some(("allow", to)) => Some((RuleAction::Allow, to)),
        Some(("deny", to)) => Some((RuleAction::Deny, to)),
        _ => None,
    };
    let (action, to) = action.ok_or_else(|| {
        CliError::usage(format!("`{line}`: expected `allow RULE` or `deny RULE`"))
    })?;
    Ok(Some(NetworkRule { action, to: to.trim().to_owned() }))
}

/// A network in a word or two.
pub(super) fn summary(network: &Network) -> String {
    match network {
        Network::Word(Reach::Open) => "open".to_owned(),
        Network::Word(Reach::None) => "off".to_owned(),
        Network::Rules(rules) => {
            let mode = match rules.mode {
                RulesMode::Enforce => "",
                RulesMode::DryRun => ", dry run",
                RulesMode::Learn => ", learning",
            };
            let count = rules.rules.len();
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} rule{plural}, otherwise {}{mode}", word(rules.otherwise))
        }
    }
}

/// An action as it is written in a file of rules.
pub(super) fn word(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(args: ReachArgs) -> Network {
        args.network().unwrap().unwrap()
    }

    #[test]
    fn what_is_allowed_is_all_and_what_is_denied_is_all_that_is_not() {
        let allow = || vec!["a.example".to_owned()];
        let Network::Rules(rules) = network(ReachArgs { allow: allow(), ..Default::default() })
        else {
            panic!("no rules")
        };
        assert_eq!(rules.otherwise, RuleAction::Deny);
        let Network::Rules(rules) = network(ReachArgs { deny: allow(), ..Default::default() })
        else {
            panic!("no rules")
        };
        assert_eq!(rules.otherwise, RuleAction::Allow);
        let open =
            ReachArgs { allow: allow(), network: Some(NetworkArg::Open), ..Default::default() };
        assert_eq!(summary(&network(open)), "1 rule, otherwise allow");
        assert_eq!(ReachArgs::default().network().unwrap(), None);
    }

    #[test]
    fn a_file_has_a_rule_on_each_line() {
        assert_eq!(from_line("  # no rule").unwrap(), None);
        let rule = from_line("deny   *:25 ").unwrap().unwrap();
        assert_eq!((rule.action, rule.to.as_str()), (RuleAction::Deny, "*:25"));
        assert!(from_line("permit x").is_err());
    }
}
