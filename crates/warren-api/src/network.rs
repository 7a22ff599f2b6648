//! What sandboxes may reach: asked for, shown, explained, learned.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// What a sandbox may reach: `open`, `none` (or `off`), or rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Network {
    /// All or nothing.
    Word(Reach),
    /// What these rules allow.
    Rules(NetworkRules),
}

/// All or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The internet; never the host, private ranges, metadata addresses or other sandboxes.
    #[default]
    Open,
    /// Its own loopback alone.
    #[serde(alias = "off")]
    None,
}

/// Rules of a network. The first that matches a connection decides; where none does, `otherwise`.
///
/// Whatever they say, a sandbox never reaches the host, private ranges, metadata addresses or
/// other sandboxes. As soon as one rule names a domain, names decide: they are looked up by the
/// server's own resolver alone, an address is reached only as long as it was answered for an
/// allowed name, and what is asked for on ports 80 and 443 must be that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({
    "rules": [{"action": "allow", "to": "*.github.com:443"}, {"action": "allow", "to": "udp://192.0.2.0/24:53"}],
    "otherwise": "deny"
})))]
#[serde(deny_unknown_fields)]
pub struct NetworkRules {
    /// What the rules are for.
    #[serde(default)]
    pub mode: RulesMode,
    /// The rules, in order; at most 256.
    #[serde(default)]
    pub rules: Vec<NetworkRule>,
    /// What becomes of what no rule matches.
    #[serde(default)]
    pub otherwise: RuleAction,
    /// How many bytes a second it may send; no limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_bytes_per_second: Option<u64>,
    /// How many bytes a second it may receive; no limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_bytes_per_second: Option<u64>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkRule {
    /// What it does.
    pub action: RuleAction,
    /// For what: `[tcp://|udp://|icmp://]TARGET[:PORTS]`. The target is `*`, an address, a network
    /// such as `192.0.2.0/24` (of IPv6 in brackets before ports), a name, or `*.name` for all names
    /// below it. Ports are numbers and ranges with commas: `80,443,8000-8999`.
    pub to: String,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// It lets a connection be made.
    Allow,
    /// It refuses it.
    #[default]
    Deny,
}

/// What rules are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RulesMode {
    /// They are enforced.
    #[default]
    Enforce,
    /// What they deny is told as an event, and happens all the same.
    DryRun,
    /// Nothing is denied; what is reached is noted, to make rules of.
    Learn,
}

impl Default for Network {
    fn default() -> Self {
        Self::Word(Reach::Open)
    }
}

impl<'de> Deserialize<'de> for Network {
    /// By hand, so that a mistake is told by its name and not by "matches no variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Network;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("`open`, `none` or an object with rules")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Network, E> {
                match word {
                    "open" => Ok(Network::Word(Reach::Open)),
                    "none" | "off" => Ok(Network::Word(Reach::None)),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Network, A::Error> {
                NetworkRules::deserialize(MapAccessDeserializer::new(map)).map(Network::Rules)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `GET` and `PUT /v1/sandboxes/{id}/network`: what a sandbox may reach, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxNetwork {
    /// What it may reach.
    pub network: Network,
    /// What went over its network since it was started; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// What went over a sandbox's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Traffic {
    /// Bytes that it sent.
    pub sent_bytes: u64,
    /// Bytes that it got.
    pub received_bytes: u64,
    /// Packets that it sent.
    pub sent_packets: u64,
    /// Packets that it got.
    pub received_packets: u64,
    /// Connections that it began.
    pub connections: u64,
    /// Connections that were denied.
    pub denied: u64,
}

/// `PUT /v1/sandboxes/{id}/network`: what it may reach from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetNetwork {
    /// What it may reach.
    pub network: Network,
}

/// `POST /v1/sandboxes/{id}/network/explain`: what to explain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"host": "api.github.com", "port": 443})))]
#[serde(deny_unknown_fields)]
pub struct ExplainNetwork {
    /// A name or an address.
    pub host: String,
    /// A port; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The kind of packet; TCP where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PacketKind>,
}

/// A kind of packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PacketKind {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Another one.
    #[serde(other)]
    Any,
}

/// Why a sandbox reaches something, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkExplanation {
    /// Whether it does.
    pub allowed: bool,
    /// The place of the rule that decides, from 0, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// That rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<NetworkRule>,
    /// Why, in a sentence for people.
    pub message: String,
}

/// `GET /v1/sandboxes/{id}/network/learned`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LearnedNetwork {
    /// What it reached, or tried to, while its rules were for learning or a dry run.
    pub destinations: Vec<LearnedDestination>,
    /// Rules that allow just that.
    pub rules: Vec<NetworkRule>,
}

/// Something that a sandbox reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LearnedDestination {
    /// The name that the address was answered for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The kind of packet.
    pub protocol: PacketKind,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How many connections.
    pub connections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Network, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_word_and_rules_are_read_and_written() {
        for (word, written) in [("open", "open"), ("none", "none"), ("off", "none")] {
            let network = read(&format!("\"{word}\"")).unwrap();
            assert_eq!(serde_json::to_value(network).unwrap(), written);
        }
        let json = r#"{"mode":"dry_run","rules":[{"action":"allow","to":"*.a.example"}]}"#;
        let Network::Rules(rules) = read(json).unwrap() else { panic!("no rules") };
        assert_eq!((rules.mode, rules.otherwise), (RulesMode::DryRun, RuleAction::Deny));
        assert_eq!(read(&serde_json::to_string(&rules).unwrap()), Ok(Network::Rules(rules)));
    }

    #[test]
    fn mistakes_are_told_by_name() {
        assert!(read(r#"{"allow": []}"#).unwrap_err().contains("`allow`"));
        assert!(read(r#""wide""#).unwrap_err().contains("expected `open`, `none` or an object"));
        assert!(read(r#"{"rules":[{"to":"*"}]}"#).unwrap_err().contains("`action`"));
        assert!(read("3").is_err());
    }
}
