//! What sandboxes may reach.

use std::sync::Arc;

use warren_api::network as api;
use warren_core::{
    egress::{
        Action, Bandwidth, Closure, Egress, Explanation, Mode, Protocol, Question, Reason, Rule,
    },
    runtime::{Reached, Traffic},
    sandboxes::Learned,
    spec::Network,
};

use crate::error::ApiError;

pub(crate) fn wanted(network: api::Network) -> Result<Network, ApiError> {
    Ok(match network {
        api::Network::Word(api::Reach::Open) => Network::Open,
        api::Network::Word(api::Reach::None) => Network::None,
        api::Network::Rules(rules) => Network::Rules(Arc::new(egress(&rules)?)),
    })
}

fn egress(rules: &api::NetworkRules) -> Result<Egress, ApiError> {
    let rule = |rule: &api::NetworkRule| {
        Rule::parse(action(rule.action), &rule.to)
            .map_err(|error| ApiError::invalid("network", error))
    };
    Ok(Egress {
        mode: match rules.mode {
            api::RulesMode::Enforce => Mode::Enforce,
            api::RulesMode::DryRun => Mode::DryRun,
            api::RulesMode::Learn => Mode::Learn,
        },
        rules: rules.rules.iter().map(rule).collect::<Result<_, _>>()?,
        otherwise: action(rules.otherwise),
        bandwidth: Bandwidth { up: rules.up_bytes_per_second, down: rules.down_bytes_per_second },
    })
}

fn action(action: api::RuleAction) -> Action {
    match action {
        api::RuleAction::Allow => Action::Allow,
        api::RuleAction::Deny => Action::Deny,
    }
}

pub(crate) fn shown(network: &Network) -> api::Network {
    match network {
        Network::Open => api::Network::Word(api::Reach::Open),
        Network::None => api::Network::Word(api::Reach::None),
        Network::Rules(egress) => api::Network::Rules(api::NetworkRules {
            mode: match egress.mode {
                Mode::Enforce => api::RulesMode::Enforce,
                Mode::DryRun => api::RulesMode::DryRun,
                Mode::Learn => api::RulesMode::Learn,
            },
            rules: egress.rules.iter().map(rule).collect(),
            otherwise: rule_action(egress.otherwise),
            up_bytes_per_second: egress.bandwidth.up,
            down_bytes_per_second: egress.bandwidth.down,
        }),
    }
}

fn rule(rule: &Rule) -> api::NetworkRule {
    api::NetworkRule { action: rule_action(rule.action), to: rule.to_string() }
}

fn rule_action(action: Action) -> api::RuleAction {
    match action {
        Action::Allow => api::RuleAction::Allow,
        Action::Deny => api::RuleAction::Deny,
    }
}

pub(crate) fn traffic(traffic: Traffic) -> api::Traffic {
    let Traffic { sent_bytes, received_bytes, sent_packets, received_packets, connections, denied } =
        traffic;
    api::Traffic { sent_bytes, received_bytes, sent_packets, received_packets, connections, denied }
}

pub(crate) fn question(request: &api::ExplainNetwork) -> Result<Question, ApiError> {
    let protocol = match request.protocol.unwrap_or_default() {
        api::PacketKind::Tcp => Protocol::Tcp,
        api::PacketKind::Udp => Protocol::Udp,
        api::PacketKind::Icmp => Protocol::Icmp,
        api::PacketKind::Any => Protocol::Any,
    };
    if request.port == Some(0) {
        return Err(ApiError::invalid("port", "expected 1 to 65535"));
    }
    Question::about(&request.host, protocol, request.port)
        .map_err(|error| ApiError::invalid("host", error))
}

pub(crate) fn explanation(network: &Network, explanation: &Explanation) -> api::NetworkExplanation {
    let index = place(&explanation.reason);
    let rule = match (network, index) {
        (Network::Rules(egress), Some(index)) => egress.rules.get(index).map(rule),
        _ => None,
    };
    let message = sentence(&explanation.reason, network);
    api::NetworkExplanation { allowed: explanation.allowed, index, rule, message }
}

fn place(reason: &Reason) -> Option<usize> {
    match reason {
        Reason::Rule(place) | Reason::NotAnswered(Some(place)) => Some(*place),
        Reason::NotEnforced(reason) => place(reason),
        _ => None,
    }
}

fn sentence(reason: &Reason, network: &Network) -> String {
    let text = |place: usize| match network {
        Network::Rules(egress) => egress
            .rules
            .get(place)
            .map_or_else(String::new, |rule| format!("{} {rule}", rule.action.word())),
        _ => String::new(),
    };
    match reason {
        Reason::NoNetwork => "the sandbox has no network".to_owned(),
        Reason::Open => "the sandbox reaches the whole internet".to_owned(),
        Reason::Reserved(what) => format!("no sandbox reaches {what}"),
        Reason::Operator => "the server's configuration allows this network to all".to_owned(),
        Reason::Rule(place) => format!("rule {place} decides: {}", text(*place)),
        Reason::Otherwise => match network {
            Network::Rules(egress) => {
                format!(
                    "no rule is about it, and what no rule is about is: {}",
                    egress.otherwise.word()
                )
            }
            _ => "no rule is about it".to_owned(),
        },
        Reason::NotAnswered(Some(place)) => {
            format!("the name is not looked up; rule {place} decides: {}", text(*place))
        }
        Reason::NotAnswered(None) => {
            "the name is not looked up, for no rule allows anything by it".to_owned()
        }
        Reason::Closed(closure) => {
            let why = match closure {
                Closure::Http3 => "HTTP/3 is, for nobody sees its names",
                Closure::Resolver => "resolvers other than the sandbox's own are",
                Closure::ResolverName => {
                    "public resolvers are, unless a rule allows this very name"
                }
                Closure::NoName => {
                    "connections that give no name are, unless a rule allows the address or *"
                }
            };
            format!("the rules are about names, and ways around names are closed: {why}")
        }
        Reason::PassesBy => "its requests are given credentials or carried by a proxy, and what \
                             would pass them by is closed"
            .to_owned(),
        Reason::NotEnforced(reason) => {
            format!("the rules are not enforced; if they were: {}", sentence(reason, network))
        }
    }
}

pub(crate) fn learned(learned: &Learned) -> api::LearnedNetwork {
    let destination = |reached: &Reached| api::LearnedDestination {
        host: reached.to.name.clone(),
        address: reached.to.address.map(|it| it.to_string()),
        protocol: match reached.to.protocol {
            Protocol::Any => api::PacketKind::Any,
            Protocol::Tcp => api::PacketKind::Tcp,
            Protocol::Udp => api::PacketKind::Udp,
            Protocol::Icmp => api::PacketKind::Icmp,
        },
        port: reached.to.port,
        connections: reached.count,
    };
    api::LearnedNetwork {
        destinations: learned.reached.iter().map(destination).collect(),
        rules: learned.rules.iter().map(rule).collect(),
    }
}
