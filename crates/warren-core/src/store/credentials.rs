//! What sandboxes' requests are given, as it is stored: sealed as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Object, ObjectKind};
use crate::{
    caller::Owner,
    credentials::{Credentials, HostRule, Proxy, ProxyKind},
    id::SandboxId,
    identity::Token,
    secrets::{SealKey, Sealed, Unsealable},
};

#[derive(Serialize, Deserialize)]
struct Record {
    rules: Vec<RuleRecord>,
    #[serde(default)]
    proxy: Option<ProxyRecord>,
    /// The audience of each token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct RuleRecord {
    host: String,
    headers: BTreeMap<String, String>,
    placeholders: BTreeSet<String>,
    in_query: bool,
    in_body: bool,
    methods: BTreeSet<String>,
    paths: BTreeSet<String>,
    plain_http: bool,
}

#[derive(Serialize, Deserialize)]
struct ProxyRecord {
    http: bool,
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
}

/// The row of a sandbox's credentials.
pub(crate) fn credentials_object(
    sandbox: SandboxId,
    owner: &Owner,
    credentials: &Credentials,
    key: &SealKey,
) -> Result<Object, Unsealable> {
    let record = Record {
        rules: credentials.rules.iter().map(rule_record).collect(),
        proxy: credentials.proxy.as_ref().map(proxy_record),
        tokens: credentials
            .tokens
            .iter()
            .map(|(name, token)| (name.clone(), token.audience.clone()))
            .collect(),
    };
    // Plain fields alone: there is nothing that JSON could not say.
    let text = Zeroizing::new(serde_json::to_vec(&record).unwrap_or_default());
    let sealed = key.seal(&text, &binding(sandbox.as_str(), owner))?;
    Ok(Object {
        kind: ObjectKind::Credentials,
        id: sandbox.to_string(),
        owner: owner.clone(),
        record: serde_json::to_string(&sealed).unwrap_or_default(),
    })
}

/// The credentials of a row, and whose they are; none where they do not open.
pub(crate) fn object_credentials(
    object: &Object,
    key: &SealKey,
) -> Option<(SandboxId, Credentials)> {
    let sealed: Sealed = serde_json::from_str(&object.record).ok()?;
    let text = key.open(&sealed, &binding(&object.id, &object.owner)).ok()?;
    let record: Record = serde_json::from_slice(text.expose()).ok()?;
    let rules = record.rules.into_iter().map(rule).collect();
    let proxy = record.proxy.map(proxy);
    let token = |(name, audience)| (name, Token { audience });
    let tokens = record.tokens.into_iter().map(token).collect();
    Some((object.id.parse().ok()?, Credentials { rules, proxy, tokens }))
}

fn binding(sandbox: &str, owner: &Owner) -> Vec<u8> {
    [b"warren credentials\0", owner.as_str().as_bytes(), b"\0", sandbox.as_bytes()].concat()
}

fn rule_record(rule: &HostRule) -> RuleRecord {
    RuleRecord {
        host: rule.host.clone(),
        headers: rule.headers.clone(),
        placeholders: rule.placeholders.clone(),
        in_query: rule.in_query,
        in_body: rule.in_body,
        methods: rule.methods.clone(),
        paths: rule.paths.clone(),
        plain_http: rule.plain_http,
    }
}

fn rule(record: RuleRecord) -> HostRule {
    HostRule {
        host: record.host,
        headers: record.headers,
        placeholders: record.placeholders,
        in_query: record.in_query,
        in_body: record.in_body,
        methods: record.methods,
        paths: record.paths,
        plain_http: record.plain_http,
    }
}

fn proxy_record(proxy: &Proxy) -> ProxyRecord {
    ProxyRecord {
        http: proxy.kind == ProxyKind::Http,
        host: proxy.host.clone(),
        port: proxy.port,
        user: proxy.user.clone(),
        password: proxy.password.clone(),
    }
}

fn proxy(record: ProxyRecord) -> Proxy {
    let kind = if record.http { ProxyKind::Http } else { ProxyKind::Socks5 };
    let ProxyRecord { host, port, user, password, .. } = record;
    Proxy { kind, host, port, user, password }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_read_back_for_their_sandbox_alone() {
        let headers = [("authorization".to_owned(), "hunter2".to_owned())].into();
        let rule = HostRule { host: "a.b".to_owned(), headers, ..HostRule::default() };
        let proxy = Some(Proxy {
            kind: ProxyKind::Http,
            host: "p.b".to_owned(),
            port: 1,
            user: None,
            password: None,
        });
        let token = Token { audience: "them".to_owned() };
        let tokens = [("a".to_owned(), token)].into();
        let credentials = Credentials { rules: vec![rule], proxy, tokens };
        let (key, id, owner) = (SealKey::generate(), SandboxId::mint(), Owner::new("a"));
        let object = credentials_object(id, &owner, &credentials, &key).unwrap();
        assert!(!object.record.contains("hunter2"));
        assert_eq!(object_credentials(&object, &key), Some((id, credentials)));
        assert_eq!(object_credentials(&object, &SealKey::generate()), None);
        let other = Object { id: SandboxId::mint().to_string(), ..object };
        assert_eq!(object_credentials(&other, &key), None);
    }
}
