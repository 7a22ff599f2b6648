//! What a sandbox may reach, as these clients say it, on the rules and credentials of core.
//!
//! What is allowed counts before what is denied. `0.0.0.0/0` among what is denied stands for
//! everything, addresses of IPv6 too: whoever writes it means that nothing else is reached.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use warren_core::{
    Caller,
    credentials::{Credentials, HostRule, Proxy, ProxyKind},
    egress::{Action, Egress, IpNetwork, Rule, Target},
    exposure::Exposure,
    spec::Network,
    state::State as SandboxState,
};

use super::{
    Refusal,
    extract::{Body, Id, Team},
    life, placeholders, secrets,
};
use crate::app::App;

/// What is denied where everything is.
const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// What stands for the values of headers, which are given and never told again.
const HIDDEN: &str = "***";

const DOMAINS_NEED_BLOCK: &str = "When specifying allowed domains in allow out, you must include \
                                  'ALL_TRAFFIC' in deny out to block all other traffic.";

/// The network of a request: of a new sandbox, or all that a change is to leave.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fields {
    pub(super) allow_public_traffic: Option<bool>,
    pub(super) mask_request_host: Option<String>,
    allow_out: Option<Vec<String>>,
    deny_out: Option<Vec<String>>,
    rules: Option<BTreeMap<String, Vec<HostFields>>>,
    egress_proxy: Option<ProxyFields>,
    https_ports: Option<Vec<u16>>,
    dns_servers: Option<Vec<String>>,
    /// Beside the others in a change, and beside the whole in a new sandbox.
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HostFields {
    transform: Option<Transform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transform {
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ProxyFields {
    address: String,
    username: Option<String>,
    password: Option<String>,
    tls: Option<ProxyTls>,
}

impl std::fmt::Debug for ProxyFields {
    // Its password is in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyFields").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProxyTls {
    enabled: bool,
}

/// The network of a sandbox as it is told, without values that are secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    allow_public_traffic: bool,
    allow_out: Vec<String>,
    deny_out: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, Vec<ShownRule>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress_proxy: Option<ShownProxy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask_request_host: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownRule {
    transform: ShownTransform,
}

#[derive(Debug, Serialize)]
struct ShownTransform {
    headers: BTreeMap<String, &'static str>,
}

#[derive(Debug, Serialize)]
struct ShownProxy {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// What the server has, that a request is understood by.
struct Known<'a> {
    /// Whether the runtime knows rules.
    has_rules: bool,
    /// What a secret is called that a client writes so.
    named: &'a dyn Fn(&str) -> String,
}

/// What a sandbox of this caller is to reach, and what its requests are given. `internet` is what a
/// new sandbox says beside its network.
pub(super) fn wanted(
    app: &App,
    caller: &Caller,
    fields: &Fields,
    internet: Option<bool>,
) -> Result<(Network, Credentials), Refusal> {
    let has_rules = app.sandboxes.runtime().1.network_rules;
    let named = &|text: &str| secrets::named(app, caller, text);
    understood(fields, internet, Known { has_rules, named })
}

fn understood(
    fields: &Fields,
    internet: Option<bool>,
    Known { has_rules, named }: Known<'_>,
) -> Result<(Network, Credentials), Refusal> {
    let unknown = fields.https_ports.iter().flatten().any(|port| *port != 443);
    if unknown {
        return Err(Refusal::bad("network.httpsPorts: this server looks into port 443 alone"));
    }
    if fields.dns_servers.as_ref().is_some_and(|servers| !servers.is_empty()) {
        let message = "network.dnsServers: sandboxes of this server ask its own resolver alone";
        return Err(Refusal::bad(message));
    }
    let credentials = Credentials {
        rules: host_rules(fields.rules.as_ref(), named)?,
        proxy: fields.egress_proxy.as_ref().map(proxy).transpose()?,
        ..Credentials::default()
    };
    let offline = internet.or(fields.allow_internet_access) == Some(false);
    Ok((egress(fields, offline, has_rules)?, credentials))
}

fn egress(fields: &Fields, offline: bool, has_rules: bool) -> Result<Network, Refusal> {
    let denied = fields.deny_out.as_deref().unwrap_or_default();
    let all = offline || denied.iter().any(|entry| EVERYTHING.contains(&entry.as_str()));
    let mut rules = Vec::new();
    for entry in fields.allow_out.as_deref().unwrap_or_default() {
        let rule = allowed(entry)?;
        if matches!(rule.to, Target::Domain(_)) && !all {
            return Err(Refusal::bad(DOMAINS_NEED_BLOCK));
        }
        rules.push(rule);
    }
    let allows = !rules.is_empty();
    for entry in denied {
        let network = entry.parse::<IpNetwork>().ok().filter(|it| !is_nowhere(*it));
        let network =
            network.ok_or_else(|| Refusal::bad(format!("invalid denied CIDR {entry}")))?;
        if !EVERYTHING.contains(&entry.as_str()) {
            rules.push(rule(Action::Deny, Target::Net(network)));
        }
    }
    let denies = rules.iter().any(|rule| rule.action == Action::Deny);
    match (all, denies, allows) {
        (false, false, _) => Ok(Network::Open),
        // One that has an interface can be given more later.
        (true, _, false) if !has_rules => Ok(Network::None),
        _ => {
            let otherwise = if all { Action::Deny } else { Action::Allow };
            Ok(Network::Rules(Arc::new(Egress { rules, otherwise, ..Egress::default() })))
        }
    }
}

/// An address, a network, a name, or `*.` and a name: neither ports nor protocols.
fn allowed(entry: &str) -> Result<Rule, Refusal> {
    let invalid = || Refusal::bad(format!("invalid allowed address {entry}"));
    if let Ok(network) = entry.parse::<IpNetwork>() {
        let everywhere = EVERYTHING.contains(&entry);
        return match is_nowhere(network) {
            true => Err(invalid()),
            false if everywhere => Ok(rule(Action::Allow, Target::Any)),
            false => Ok(rule(Action::Allow, Target::Net(network))),
        };
    }
    let found = Rule::parse(Action::Allow, entry).ok().filter(Rule::is_for_everything);
    let found = found.filter(|rule| !matches!(rule.to, Target::Net(_)));
    found.ok_or_else(invalid)
}

/// Whether this is the one address that stands for none.
fn is_nowhere(network: IpNetwork) -> bool {
    network.address().is_unspecified() && network.prefix() > 0
}

fn rule(action: Action, to: Target) -> Rule {
    Rule { action, to, protocol: Default::default(), ports: Default::default() }
}

fn host_rules(
    fields: Option<&BTreeMap<String, Vec<HostFields>>>,
    named: &dyn Fn(&str) -> String,
) -> Result<Vec<HostRule>, Refusal> {
    let mut rules = Vec::new();
    for (host, of_host) in fields.into_iter().flatten() {
        if of_host.len() > 1 {
            let message = format!("Domain \"{host}\" can have at most 1 transform rule.");
            return Err(Refusal::bad(message));
        }
        let transform = of_host.iter().filter_map(|rule| rule.transform.as_ref());
        let written = transform.filter_map(|it| it.headers.clone()).flatten();
        let ours = |(name, value): (String, String)| Ok((name, placeholders::ours(&value, named)?));
        let headers: BTreeMap<_, _> = written.map(ours).collect::<Result<_, Refusal>>()?;
        if !headers.is_empty() {
            let host = host.to_lowercase();
            rules.push(HostRule { host, headers, ..HostRule::default() });
        }
    }
    Ok(rules)
}

fn proxy(fields: &ProxyFields) -> Result<Proxy, Refusal> {
    if fields.tls.as_ref().is_some_and(|tls| tls.enabled) {
        let message = "network.egressProxy.tls: proxies are spoken to without TLS here";
        return Err(Refusal::bad(message));
    }
    let invalid = || {
        let message = "network.egressProxy.address: expected HOST:PORT, socks5://HOST:PORT or \
                       http://HOST:PORT";
        Refusal::bad(message)
    };
    let (kind, rest) = match fields.address.split_once("://") {
        None => (ProxyKind::Socks5, fields.address.as_str()),
        Some(("socks5" | "socks5h", rest)) => (ProxyKind::Socks5, rest),
        Some(("http", rest)) => (ProxyKind::Http, rest),
        Some(_) => return Err(invalid()),
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(invalid)?;
    let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    Ok(Proxy {
        kind,
        host: host.to_owned(),
        port: port.parse().map_err(|_none| invalid())?,
        user: fields.username.clone(),
        password: fields.password.clone(),
    })
}

/// The network of a sandbox as these clients would have said it.
pub(super) fn shown(network: &Network, credentials: &Credentials, exposure: &Exposure) -> Shown {
    let (mut allow_out, mut deny_out) = (Vec::new(), Vec::new());
    match network {
        Network::Open => {}
        Network::None => deny_out.push(EVERYTHING[0].to_owned()),
        Network::Rules(egress) => {
            if egress.otherwise == Action::Deny {
                deny_out.push(EVERYTHING[0].to_owned());
            }
            for rule in &egress.rules {
                let text = match rule.to {
                    Target::Any => EVERYTHING[0].to_owned(),
                    _ => rule.to_string(),
                };
                match rule.action {
                    Action::Allow => allow_out.push(text),
                    Action::Deny => deny_out.push(text),
                }
            }
        }
    }
    let hidden = |rule: &HostRule| {
        let headers = rule.headers.keys().map(|name| (name.clone(), HIDDEN)).collect();
        (rule.host.clone(), vec![ShownRule { transform: ShownTransform { headers } }])
    };
    Shown {
        allow_public_traffic: exposure.e2b.is_some_and(|it| it.public),
        allow_out,
        deny_out,
        rules: credentials.rules.iter().map(hidden).collect(),
        egress_proxy: credentials.proxy.as_ref().map(|proxy| ShownProxy {
            address: format!("{}:{}", proxy.host, proxy.port),
            username: proxy.user.clone(),
        }),
        mask_request_host: exposure.mask_host.clone(),
    }
}

/// Whether this lets a sandbox reach the internet by default.
pub(super) fn is_online(network: &Network) -> bool {
    match network {
        Network::Open => true,
        Network::None => false,
        Network::Rules(egress) => egress.otherwise == Action::Allow,
    }
}

/// Replaces all that a running sandbox may reach: what is not said is not there any more.
pub(super) async fn replace(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    Body(fields): Body<Fields>,
) -> Result<StatusCode, Refusal> {
    let (network, mut credentials) = wanted(&app, &caller, &fields, None)?;
    let sandbox = life::find(&app, &caller, id)?;
    if sandbox.state != SandboxState::Running {
        return Err(Refusal::conflict(format!("Sandbox \"{id}\" is not running")));
    }
    let before = sandbox.spec.network.clone();
    app.sandboxes.set_network(&caller, id.as_str(), network).await?;
    let given = app.sandboxes.credentials(&caller, id.as_str())?;
    // Who it is stays as it is: an update does not say.
    credentials.tokens.clone_from(&given.tokens);
    if *given == credentials {
        return Ok(StatusCode::NO_CONTENT);
    }
    if let Err(error) = app.sandboxes.set_credentials(&caller, id.as_str(), credentials).await {
        // All of it or nothing.
        app.sandboxes.set_network(&caller, id.as_str(), before).await?;
        return Err(error.into());
    }
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(json: &str, internet: Option<bool>) -> Result<Network, String> {
        let fields: Fields = serde_json::from_str(json).unwrap();
        let found = understood(&fields, internet, Known { has_rules: true, named: &str::to_owned });
        found.map(|(network, _)| network).map_err(|refusal| refusal.message().to_owned())
    }

    #[track_caller]
    fn check(json: &str, internet: Option<bool>, expected: &str) {
        let text = match network(json, internet).unwrap() {
            Network::Open => "open".to_owned(),
            Network::None => "none".to_owned(),
            Network::Rules(egress) => egress.to_string().replace("mode enforce\n", ""),
        };
        assert_eq!(text.trim_end().replace('\n', ", "), expected, "{json}");
    }

    #[test]
    fn what_is_allowed_counts_before_what_is_denied() {
        check("{}", None, "open");
        check("{}", Some(true), "open");
        check("{}", Some(false), "otherwise deny");
        check(r#"{"allow_internet_access":false}"#, None, "otherwise deny");
        check(r#"{"allowOut":["192.0.2.1"]}"#, None, "open");
        check(r#"{"denyOut":["0.0.0.0/0"]}"#, None, "otherwise deny");
        check(
            r#"{"denyOut":["0.0.0.0/0"],"allowOut":["a.example","*.b.example","192.0.2.0/24"]}"#,
            None,
            "allow a.example, allow *.b.example, allow 192.0.2.0/24, otherwise deny",
        );
        check(
            r#"{"denyOut":["192.0.2.0/24"],"allowOut":["192.0.2.7"]}"#,
            None,
            "allow 192.0.2.7, deny 192.0.2.0/24, otherwise allow",
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_the_known_words() {
        let refused = |json: &str| network(json, None).unwrap_err();
        assert_eq!(refused(r#"{"denyOut":["a.example"]}"#), "invalid denied CIDR a.example");
        assert_eq!(refused(r#"{"denyOut":["0.0.0.0"]}"#), "invalid denied CIDR 0.0.0.0");
        assert_eq!(refused(r#"{"allowOut":["a.example"]}"#), DOMAINS_NEED_BLOCK);
        for bad in ["a b", "tcp://a.example", "a.example:443", "192.0.2.1/99", "", "1.2.3.400"] {
            let message = refused(&format!(r#"{{"allowOut":["{bad}"]}}"#));
            assert_eq!(message, format!("invalid allowed address {bad}"));
        }
        assert!(refused(r#"{"dnsServers":["192.0.2.1"]}"#).starts_with("network.dnsServers"));
        assert!(refused(r#"{"httpsPorts":[8443]}"#).starts_with("network.httpsPorts"));
        let message = refused(r#"{"rules":{"a.example":[{},{}]}}"#);
        assert_eq!(message, "Domain \"a.example\" can have at most 1 transform rule.");
    }

    #[test]
    fn a_proxy_is_read_with_and_without_a_scheme() {
        let read = |address: &str| {
            let fields = ProxyFields {
                address: address.to_owned(),
                username: None,
                password: None,
                tls: None,
            };
            proxy(&fields).map(|it| (it.kind, it.host, it.port)).ok()
        };
        let of = |kind, host: &str, port| Some((kind, host.to_owned(), port));
        assert_eq!(read("p.example:1080"), of(ProxyKind::Socks5, "p.example", 1080));
        assert_eq!(read("socks5://192.0.2.1:1080/"), of(ProxyKind::Socks5, "192.0.2.1", 1080));
        assert_eq!(read("http://p.example:80"), of(ProxyKind::Http, "p.example", 80));
        assert_eq!(read("[2001:db8::1]:1080"), of(ProxyKind::Socks5, "2001:db8::1", 1080));
        for bad in ["", "p.example", "https://p.example:1", "p.example:x", "p.example:70000"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_runtime_without_rules_can_still_do_without_a_network() {
        let known = Known { has_rules: false, named: &str::to_owned };
        let offline = understood(&Fields::default(), Some(false), known).unwrap();
        assert_eq!(offline.0, Network::None);
    }
}
