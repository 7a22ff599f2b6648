//! Names of secrets become values.

use super::{Credentials, Granted, GrantedProxy, GrantedRule, HostRule, Part, parts, placeholder};
use crate::secrets::SecretValue;

/// Headers whose value is a secret even where it is written as it is.
const SECRET_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Parts of names of such headers.
const SECRET_PARTS: [&str; 5] = ["token", "secret", "key", "auth", "password"];

/// Puts values in the place of names. Gives the names as well for which there is none: what needs
/// them is left out, so that a request without its credentials fails where it goes.
pub(crate) fn resolve(
    credentials: &Credentials,
    open: impl Fn(Part<'_>) -> Option<SecretValue>,
) -> (Granted, Vec<String>) {
    let missing = |name: &String| open(Part::Secret(name)).is_none();
    let missing: Vec<_> = credentials.secrets().into_iter().filter(missing).collect();
    let rules = credentials.rules.iter().map(|rule| granted(rule, &open)).collect();
    let proxy = credentials.proxy.as_ref().map(|proxy| {
        let password = proxy
            .password
            .as_deref()
            .map_or_else(|| Some(SecretValue::new(Vec::new())), |password| filled(password, &open));
        // A proxy with a wrong password refuses; without a proxy the sandbox would go around it.
        let password = password.map_or_else(|| SecretValue::new(Vec::new()), |it| trimmed(&it));
        let user = proxy.user.clone().map(|user| (user, password));
        GrantedProxy { kind: proxy.kind, host: proxy.host.clone(), port: proxy.port, user }
    });
    (Granted { rules, proxy }, missing)
}

fn granted(rule: &HostRule, open: &impl Fn(Part<'_>) -> Option<SecretValue>) -> GrantedRule {
    let headers: Vec<_> = rule
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), header(filled(value, open)?)?)))
        .collect();
    let placeholders: Vec<_> = rule
        .placeholders
        .iter()
        .filter_map(|name| Some((placeholder(name), trimmed(&open(Part::Secret(name))?))))
        .collect();
    let named = rule.headers.values().flat_map(|value| parts(value));
    let mut hidden: Vec<_> = named
        .filter_map(|part| match part {
            Part::Secret(_) | Part::Token(_) => open(part),
            Part::Text(_) => None,
        })
        .chain(placeholders.iter().map(|(_, value)| value.clone()))
        .collect();
    let literal = rule.headers.iter().filter(|(name, value)| {
        is_secret(name) && parts(value).iter().all(|part| matches!(part, Part::Text(_)))
    });
    let literal = literal.flat_map(|(name, value)| secrets_in(name, value));
    hidden.extend(literal.map(|it| SecretValue::new(it.as_bytes().to_vec())));
    let hidden = hidden.iter().map(trimmed).collect();
    GrantedRule {
        host: rule.host.clone(),
        headers,
        placeholders,
        hidden,
        in_query: rule.in_query,
        in_body: rule.in_body,
        methods: rule.methods.iter().cloned().collect(),
        paths: rule.paths.iter().cloned().collect(),
        plain_http: rule.plain_http,
    }
}

/// A value with secrets in the place of their names; none where one is missing.
fn filled(value: &str, open: &impl Fn(Part<'_>) -> Option<SecretValue>) -> Option<SecretValue> {
    let mut filled = Vec::new();
    for part in parts(value) {
        match part {
            Part::Text(text) => filled.extend_from_slice(text.as_bytes()),
            Part::Secret(_) | Part::Token(_) => filled.extend_from_slice(open(part)?.expose()),
        }
    }
    Some(SecretValue::new(filled))
}

/// A value that a header can have.
fn header(value: SecretValue) -> Option<SecretValue> {
    let value = trimmed(&value);
    let good = value.expose().iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    good.then_some(value)
}

/// A value as it is sent, wherever: a newline at its end is nobody's wish, and comes with files.
fn trimmed(value: &SecretValue) -> SecretValue {
    SecretValue::new(value.expose().trim_ascii().to_vec())
}

/// What of a header that is written as it is must not be seen: every cookie's value, or what
/// stands behind `Bearer` and the like.
fn secrets_in<'a>(name: &str, value: &'a str) -> Vec<&'a str> {
    if name.eq_ignore_ascii_case("cookie") {
        let of_pair = |pair: &'a str| pair.split_once('=').map_or(pair, |(_, value)| value);
        return value.split(';').map(|pair| of_pair(pair).trim().trim_matches('"')).collect();
    }
    value.rsplit(' ').next().into_iter().collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_HEADERS.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Proxy, ProxyKind};

    fn open(part: Part<'_>) -> Option<SecretValue> {
        let value = match part {
            Part::Secret("A") => "value-a\n",
            Part::Secret("B") => "value-b",
            Part::Secret("LINES") => "one\ntwo",
            Part::Token("T") => "e.y.J",
            _ => return None,
        };
        Some(SecretValue::new(value.as_bytes().to_vec()))
    }

    fn rule(headers: &[(&str, &str)], placeholders: &[&str]) -> Credentials {
        let own = |it: &(&str, &str)| (it.0.to_owned(), it.1.to_owned());
        let rule = HostRule {
            host: "a.example".to_owned(),
            headers: headers.iter().map(own).collect(),
            placeholders: placeholders.iter().map(|it| (*it).to_owned()).collect(),
            ..HostRule::default()
        };
        Credentials { rules: vec![rule], ..Credentials::default() }
    }

    fn texts<'a>(values: impl IntoIterator<Item = &'a SecretValue>) -> Vec<String> {
        let text = |it: &SecretValue| String::from_utf8(it.expose().to_vec()).unwrap();
        values.into_iter().map(text).collect()
    }

    #[test]
    fn names_become_values_that_are_hidden() {
        let wanted = rule(&[("authorization", "Bearer {{secret:A}}")], &["B"]);
        let (granted, missing) = resolve(&wanted, open);
        let [rule] = granted.rules.as_slice() else { panic!("{granted:?}") };
        assert!(missing.is_empty());
        assert_eq!(texts(rule.headers.iter().map(|it| &it.1)), ["Bearer value-a"]);
        assert_eq!(rule.placeholders[0].0, "{{secret:B}}");
        assert_eq!(texts(&rule.hidden), ["value-a", "value-b"]);
        assert!(!format!("{granted:?}").contains("value-"));
    }

    #[test]
    fn tokens_are_sent_and_hidden_as_secrets_are() {
        let wanted = rule(&[("authorization", "Bearer {{token:T}}"), ("x", "{{token:U}}")], &[]);
        let (granted, missing) = resolve(&wanted, open);
        assert_eq!(missing, <[String; 0]>::default());
        let headers = &granted.rules[0].headers;
        assert_eq!(texts(headers.iter().map(|it| &it.1)), ["Bearer e.y.J"]);
        assert_eq!(texts(&granted.rules[0].hidden), ["e.y.J"]);
    }

    #[test]
    fn what_needs_a_secret_that_is_not_there_is_left_out() {
        let wanted =
            rule(&[("x", "{{secret:GONE}}"), ("y", "{{secret:LINES}}"), ("z", "1")], &["C"]);
        let (granted, missing) = resolve(&wanted, open);
        assert_eq!(missing, ["C", "GONE"]);
        assert_eq!(granted.rules[0].headers.len(), 1);
        assert!(granted.rules[0].placeholders.is_empty());
    }

    #[test]
    fn a_literal_that_looks_like_a_secret_is_hidden_too() {
        let wanted = rule(&[("Authorization", "Bearer literal"), ("Accept", "text/html")], &[]);
        let (granted, _) = resolve(&wanted, open);
        assert_eq!(texts(&granted.rules[0].hidden), ["literal"]);
        let cookies = rule(&[("Cookie", "a=first; b=\"second=\"; third")], &[]);
        let (granted, _) = resolve(&cookies, open);
        assert_eq!(texts(&granted.rules[0].hidden), ["first", "second=", "third"]);
    }

    #[test]
    fn no_newline_at_the_end_of_a_file_is_sent() {
        let mut wanted = rule(&[("x", "{{secret:A}}")], &["A", "LINES"]);
        wanted.proxy = Some(Proxy {
            kind: ProxyKind::Http,
            host: "p.example".to_owned(),
            port: 3128,
            user: Some("me".to_owned()),
            password: Some("{{secret:A}}".to_owned()),
        });
        let (granted, _) = resolve(&wanted, open);
        assert_eq!(texts(granted.rules[0].headers.iter().map(|it| &it.1)), ["value-a"]);
        let placeholders = granted.rules[0].placeholders.iter().map(|it| &it.1);
        assert_eq!(texts(placeholders), ["value-a", "one\ntwo"]);
        assert_eq!(texts([&granted.proxy.unwrap().user.unwrap().1]), ["value-a"]);
    }

    #[test]
    fn a_proxy_stays_though_its_password_is_gone() {
        let proxy = Proxy {
            kind: ProxyKind::Socks5,
            host: "p.example".to_owned(),
            port: 1080,
            user: Some("me".to_owned()),
            password: Some("{{secret:GONE}}".to_owned()),
        };
        let (granted, missing) =
            resolve(&Credentials { proxy: Some(proxy), ..Credentials::default() }, open);
        assert_eq!(missing, ["GONE"]);
        let (user, password) = granted.proxy.unwrap().user.unwrap();
        assert_eq!((user.as_str(), password.expose()), ("me", &b""[..]));
    }
}
