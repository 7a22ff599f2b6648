//! What sandboxes may reach: looked at, changed, explained, learned.

use std::{collections::BTreeSet, sync::Arc};

use super::Sandboxes;
use crate::{
    caller::Caller,
    egress::{Action, Explanation, Protocol, Question, Rule},
    error::SandboxError,
    plan::check_network,
    runtime::{Destination, Reached, Traffic},
    sandbox::{Sandbox, handle::Command},
    spec::Network,
    state::State,
};

/// What a sandbox reached, and rules that allow just that.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What it reached, or tried to.
    pub reached: Vec<Reached>,
    /// Rules that allow it, in order.
    pub rules: Vec<Rule>,
}

impl Sandboxes {
    /// Changes what a sandbox may reach, while it runs. Connections that are still allowed go on,
    /// others are cut.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Invalid`], [`SandboxError::NotRunning`] where
    /// it has ended, [`SandboxError::Unsupported`] where the runtime has no rules.
    pub async fn set_network(
        &self,
        caller: &Caller,
        id_or_name: &str,
        network: Network,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        check_network(&network)?;
        let handle = self.find(caller, id_or_name)?;
        self.require_rules(&network)?;
        match handle.ask(|reply| Command::SetNetwork(network, reply)).await {
            Err(SandboxError::Ended { id, .. }) => {
                Err(SandboxError::NotRunning { id, state: handle.sandbox().state })
            }
            other => other,
        }
    }

    /// Refuses rules where the runtime has none.
    pub(super) fn require_rules(&self, network: &Network) -> Result<(), SandboxError> {
        let rules = matches!(network, Network::Rules(_));
        if rules && !self.shared.runtime.capabilities().network_rules {
            return Err(SandboxError::Unsupported { operation: "enforce rules of a network" });
        }
        Ok(())
    }

    /// A sandbox, and what went over its network where that can be said.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`].
    pub async fn network(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(Arc<Sandbox>, Option<Traffic>), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        // One that has ended has a policy and no traffic.
        let traffic = self.shared.runtime.traffic(&handle.id()).await.ok();
        Ok((handle.sandbox(), traffic.flatten()))
    }

    /// Why a sandbox reaches something, or does not.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`].
    pub async fn explain(
        &self,
        caller: &Caller,
        id_or_name: &str,
        question: &Question,
    ) -> Result<(Arc<Sandbox>, Explanation), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let sandbox = handle.sandbox();
        let network = &sandbox.spec.network;
        let explained = match sandbox.state {
            State::Running | State::Paused => {
                let explained = self.shared.runtime.explain(&sandbox.id, network, question).await;
                explained.map_err(SandboxError::runtime("explain the network"))?
            }
            _ => network.explain(question),
        };
        Ok((sandbox, explained))
    }

    /// What a sandbox reached while its rules were for learning or a dry run, and rules that allow
    /// just that.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`], [`SandboxError::Unsupported`].
    pub async fn learned(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Learned, SandboxError> {
        let handle = self.find_with_guest(caller, id_or_name)?;
        let reached = self.shared.runtime.learned(&handle.id()).await;
        let reached = reached.map_err(SandboxError::runtime("say what was reached"))?;
        Ok(Learned { rules: rules_for(&reached), reached })
    }
}

/// The fewest rules that allow what was reached: by name where there is one.
fn rules_for(reached: &[Reached]) -> Vec<Rule> {
    let texts: BTreeSet<String> = reached.iter().filter_map(|it| rule_text(&it.to)).collect();
    let rule = |text: &String| Rule::parse(Action::Allow, text).ok();
    texts.iter().filter_map(rule).collect()
}

fn rule_text(to: &Destination) -> Option<String> {
    let target = match (&to.name, to.address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) if address.is_ipv6() && to.port.is_some() => format!("[{address}]"),
        (None, Some(address)) => address.to_string(),
        (None, None) => return None,
    };
    let scheme = match to.protocol {
        // HTTP/3, which is closed as soon as rules name a domain: it is TCP then.
        Protocol::Udp if to.name.is_some() && to.port == Some(443) => "tcp://".to_owned(),
        // A question alone reaches nothing.
        Protocol::Any if to.address.is_none() => return None,
        Protocol::Any => String::new(),
        protocol => format!("{}://", protocol.word()),
    };
    let port = to.port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}{target}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_rules_are_by_name_and_said_once() {
        let to = |name: Option<&str>, address: &str, protocol, port| Reached {
            to: Destination {
                name: name.map(str::to_owned),
                address: Some(address.parse().unwrap()),
                protocol,
                port,
            },
            count: 1,
        };
        let reached = [
            to(Some("a.example"), "192.0.2.1", Protocol::Tcp, Some(443)),
            to(Some("a.example"), "192.0.2.2", Protocol::Tcp, Some(443)),
            to(Some("a.example"), "192.0.2.2", Protocol::Udp, Some(443)),
            to(Some("b.example"), "192.0.2.3", Protocol::Udp, Some(443)),
            to(None, "2001:db8::1", Protocol::Udp, Some(53)),
            to(None, "192.0.2.9", Protocol::Icmp, None),
        ];
        let rules: Vec<String> = rules_for(&reached).iter().map(Rule::to_string).collect();
        let expected = [
            "icmp://192.0.2.9",
            "tcp://a.example:443",
            "tcp://b.example:443",
            "udp://[2001:db8::1]:53",
        ];
        assert_eq!(rules, expected);
    }
}
