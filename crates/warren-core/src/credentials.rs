//! What requests of a sandbox are given on their way out: headers with secrets, for some hosts.
//!
//! Callers name secrets by `{{secret:NAME}}`; a runtime is given the values, in memory, and no row
//! has them in clear. What callers wrote is stored sealed too, for it may hold a password as it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::{error::SandboxError, identity::Token, secrets::SecretValue};

mod check;
mod resolve;

pub(crate) use check::check;
pub(crate) use resolve::resolve;

/// How a placeholder of a secret begins, and one of a token; how both end.
const OPEN: &str = "{{secret:";
const OPEN_TOKEN: &str = "{{token:";
const CLOSE: &str = "}}";

/// What a sandbox's requests are given.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// For which hosts what is done, at most 64.
    pub rules: Vec<HostRule>,
    /// The proxy that all connections go through.
    pub proxy: Option<Proxy>,
    /// Tokens that say who the sandbox is, by the names that headers have them by: at most 32.
    pub tokens: BTreeMap<String, Token>,
}

impl std::fmt::Debug for Credentials {
    // Values of headers may be secrets as they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<_> = self.rules.iter().map(|rule| &rule.host).collect();
        f.debug_struct("Credentials").field("hosts", &hosts).finish_non_exhaustive()
    }
}

/// What is done to requests for a host.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// A name, or one behind `*.` for all below it.
    pub host: String,
    /// Headers that requests have then; values may name secrets.
    pub headers: BTreeMap<String, String>,
    /// Secrets whose placeholders are replaced in what the sandbox sends.
    pub placeholders: BTreeSet<String>,
    /// Whether they are in the query too, and not in headers alone.
    pub in_query: bool,
    /// Whether they are in bodies too.
    pub in_body: bool,
    /// The methods that pass; all where empty.
    pub methods: BTreeSet<String>,
    /// The paths that pass, as patterns; all where empty.
    pub paths: BTreeSet<String>,
    /// Whether secrets are sent without TLS too.
    pub plain_http: bool,
}

impl std::fmt::Debug for HostRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostRule").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A proxy of the caller's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who is let through.
    pub user: Option<String>,
    /// With which password; may name a secret.
    pub password: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// SOCKS5.
    Socks5,
    /// `CONNECT` of HTTP.
    Http,
}

/// [`Credentials`] with values in the place of names, for a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// For which hosts what is done.
    pub rules: Vec<GrantedRule>,
    /// The proxy that all connections go through.
    pub proxy: Option<GrantedProxy>,
}

/// A [`HostRule`] with values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantedRule {
    /// A name, or one behind `*.`.
    pub host: String,
    /// Headers that requests have then.
    pub headers: Vec<(String, SecretValue)>,
    /// What is replaced, with what.
    pub placeholders: Vec<(String, SecretValue)>,
    /// Values that are hidden in responses.
    pub hidden: Vec<SecretValue>,
    /// As in [`HostRule`].
    pub in_query: bool,
    /// As in [`HostRule`].
    pub in_body: bool,
    /// As in [`HostRule`].
    pub methods: Vec<String>,
    /// As in [`HostRule`].
    pub paths: Vec<String>,
    /// As in [`HostRule`].
    pub plain_http: bool,
}

/// A [`Proxy`] with its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedProxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who is let through, with which password.
    pub user: Option<(String, SecretValue)>,
}

impl Credentials {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.proxy.is_none() && self.tokens.is_empty()
    }

    /// The secrets that are named.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<String> {
        let named = self.parts().filter_map(named);
        let replaced = self.rules.iter().flat_map(|rule| rule.placeholders.iter().cloned());
        named.chain(replaced).collect()
    }

    /// Everything that is set or sent, taken apart.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let values = self.rules.iter().flat_map(|rule| rule.headers.values());
        let password = self.proxy.iter().filter_map(|proxy| proxy.password.as_ref());
        values.chain(password).flat_map(|value| parts(value))
    }
}

fn named(part: Part<'_>) -> Option<String> {
    match part {
        Part::Secret(name) => Some(name.to_owned()),
        Part::Text(_) | Part::Token(_) => None,
    }
}

/// A part of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// As it is.
    Text(&'a str),
    /// The name of a secret.
    Secret(&'a str),
    /// The name of a token.
    Token(&'a str),
}

/// A value taken apart at its placeholders.
fn parts(mut value: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let Some((before, kind, rest)) = first_open(value) {
        let Some((name, after)) = rest.split_once(CLOSE) else { break };
        parts.extend([Part::Text(before), kind(name)]);
        value = after;
    }
    parts.push(Part::Text(value));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

/// What a placeholder makes of the name in it.
type Kind<'a> = fn(&'a str) -> Part<'a>;

/// What is before the first placeholder, its kind, and what is behind its beginning.
fn first_open<'a>(value: &'a str) -> Option<(&'a str, Kind<'a>, &'a str)> {
    let (secret, token): (Kind<'a>, Kind<'a>) = (Part::Secret, Part::Token);
    let found = [(OPEN, secret), (OPEN_TOKEN, token)].into_iter().filter_map(|(open, kind)| {
        let (before, rest) = value.split_once(open)?;
        Some((before, kind, rest))
    });
    found.min_by_key(|(before, ..)| before.len())
}

/// What stands for a secret in what a sandbox sends.
fn placeholder(name: &str) -> String {
    format!("{OPEN}{name}{CLOSE}")
}

fn invalid(reason: impl Into<String>) -> SandboxError {
    SandboxError::invalid("credentials", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_and_secrets() {
        use Part::{Secret, Text, Token};
        assert_eq!(parts("plain"), [Text("plain")]);
        assert_eq!(parts("Bearer {{secret:A}}"), [Text("Bearer "), Secret("A")]);
        assert_eq!(parts("{{secret:A}}:{{secret:B}}"), [Secret("A"), Text(":"), Secret("B")]);
        assert_eq!(
            parts("{{token:a b}}{{secret:A}}x{{token:c}}"),
            [Token("a b"), Secret("A"), Text("x"), Token("c")]
        );
        assert_eq!(parts("{{secret:A"), [Text("{{secret:A")]);
        assert_eq!(parts(""), []);
    }

    #[test]
    fn no_output_shows_a_value() {
        let headers = BTreeMap::from([("authorization".to_owned(), "hunter2".to_owned())]);
        let rule = HostRule { host: "a.example".to_owned(), headers, ..HostRule::default() };
        let text = format!("{:?}", Credentials { rules: vec![rule], ..Credentials::default() });
        assert!(text.contains("a.example") && !text.contains("hunter2"), "{text}");
    }
}
