//! What a caller wrote, looked at before anything is done with it.

use std::net::IpAddr;

use super::{Credentials, HostRule, Part, Proxy, invalid, parts};
use crate::{error::SandboxError, identity, secrets};

/// How many rules a sandbox may have.
const MOST_RULES: usize = 64;
/// How many headers, placeholders, methods or paths a rule may have.
const MOST_PER_RULE: usize = 32;
/// The longest header, method or pattern.
const LONGEST: usize = 8192;
/// Headers that belong to the connection, or say where a request goes.
const FORBIDDEN: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks the form of everything; secrets that are named need not exist.
///
/// # Errors
///
/// [`SandboxError::Invalid`], without values.
pub(crate) fn check(credentials: &Credentials) -> Result<(), SandboxError> {
    if credentials.rules.len() > MOST_RULES {
        return Err(invalid(format!("expected at most {MOST_RULES} rules")));
    }
    let mut hosts: Vec<_> = credentials.rules.iter().map(|it| it.host.to_lowercase()).collect();
    hosts.sort_unstable();
    let twice = |pair: &[String]| matches!(pair, [one, other] if one == other);
    if let Some(host) = hosts.windows(2).find(|pair| twice(pair)).and_then(<[_]>::first) {
        return Err(invalid(format!("{host} has two rules: expected one for each host")));
    }
    credentials.rules.iter().try_for_each(check_rule)?;
    for name in credentials.secrets() {
        secrets::check_name(&name).map_err(|_odd| invalid(format!("{name:?} names no secret")))?;
    }
    identity::check(credentials.tokens.iter())?;
    for part in credentials.parts() {
        if let Part::Token(name) = part
            && !credentials.tokens.contains_key(name)
        {
            return Err(invalid(format!("the sandbox has no token {name:?}")));
        }
    }
    credentials.proxy.as_ref().map_or(Ok(()), check_proxy)
}

fn check_rule(rule: &HostRule) -> Result<(), SandboxError> {
    let host = &rule.host;
    check_host(host)?;
    let counts =
        [rule.headers.len(), rule.placeholders.len(), rule.methods.len(), rule.paths.len()];
    if counts.into_iter().any(|count| count > MOST_PER_RULE) {
        return Err(invalid(format!("{host}: expected at most {MOST_PER_RULE} of each kind")));
    }
    for (name, value) in &rule.headers {
        if !is_token(name) || FORBIDDEN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(invalid(format!("{host}: the header {name:?} cannot be set")));
        }
        if !is_header_value(value) {
            return Err(invalid(format!("{host}: the value of {name} is no header's")));
        }
    }
    if let Some(method) = rule.methods.iter().find(|method| !is_token(method)) {
        return Err(invalid(format!("{host}: {method:?} is no method")));
    }
    let path =
        |path: &&String| !path.starts_with('/') || path.len() > LONGEST || path.contains('?');
    if let Some(path) = rule.paths.iter().find(path) {
        return Err(invalid(format!(
            "{host}: the path {path:?}: expected `/`, then segments, `*` and `**`"
        )));
    }
    let nothing = rule.headers.is_empty()
        && rule.placeholders.is_empty()
        && rule.methods.is_empty()
        && rule.paths.is_empty();
    if nothing {
        return Err(invalid(format!(
            "{host}: expected `headers`, `placeholders`, `methods` or `paths`"
        )));
    }
    Ok(())
}

/// A name, or one behind `*.`.
fn check_host(host: &str) -> Result<(), SandboxError> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
    };
    let number = |label: &str| label.bytes().all(|it| it.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or_default();
    let good = name.len() <= 253 && name.split('.').all(label) && !number(last);
    match good && name.parse::<IpAddr>().is_err() {
        true => Ok(()),
        false => Err(invalid(format!(
            "{host:?} is no host: expected a name such as `api.example.com`, or `*.example.com`"
        ))),
    }
}

fn check_proxy(proxy: &Proxy) -> Result<(), SandboxError> {
    let address = proxy.host.parse::<IpAddr>().is_ok();
    if !address {
        check_host(&proxy.host)?;
    }
    if proxy.host.starts_with("*.") || proxy.port == 0 {
        return Err(invalid("proxy: expected a host and a port from 1 to 65535"));
    }
    let long = |text: &Option<String>| text.as_ref().is_some_and(|it| it.len() > 255);
    if long(&proxy.user) || long(&proxy.password) {
        return Err(invalid("proxy: expected a user and a password of at most 255 bytes"));
    }
    if proxy.password.is_some() && proxy.user.is_none() {
        return Err(invalid("proxy: a password needs a user"));
    }
    let colon = proxy.user.as_ref().is_some_and(|it| it.contains([':', '\r', '\n']));
    if colon {
        return Err(invalid("proxy: a user has no colon"));
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(token)
}

fn is_header_value(value: &str) -> bool {
    let literal = |part: Part<'_>| match part {
        Part::Text(text) => text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control()),
        Part::Secret(_) | Part::Token(_) => true,
    };
    value.len() <= LONGEST && parts(value).into_iter().all(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::ProxyKind;

    fn rule(host: &str) -> HostRule {
        let headers = [("Authorization".to_owned(), "Bearer {{secret:A}}".to_owned())].into();
        HostRule { host: host.to_owned(), headers, ..HostRule::default() }
    }

    fn reason(rules: Vec<HostRule>) -> String {
        let refused = check(&Credentials { rules, ..Credentials::default() }).unwrap_err();
        refused.to_string()
    }

    #[test]
    fn hosts_are_names() {
        for good in ["a.example", "*.example.com", "localhost", "A-b_c.d"] {
            check(&Credentials { rules: vec![rule(good)], ..Credentials::default() }).unwrap();
        }
        for bad in ["", "*", "10.0.0.1", "127.1", "a..b", "a b", "*.*.a", "[::1]", "a:80"] {
            assert!(reason(vec![rule(bad)]).contains("is no host"), "{bad}");
        }
        assert!(reason(vec![rule("a.b"), rule("A.B")]).contains("two rules"));
    }

    #[test]
    fn headers_are_headers_and_not_those_of_the_connection() {
        for bad in ["Host", "content-length", "a b", "", "Transfer-Encoding"] {
            let headers = [(bad.to_owned(), "x".to_owned())].into();
            let text = reason(vec![HostRule { headers, ..rule("a.b") }]);
            assert!(text.contains("cannot be set"), "{text}");
        }
        let headers = [("x".to_owned(), "hunter2\r\nhost: b".to_owned())].into();
        let text = reason(vec![HostRule { headers, ..rule("a.b") }]);
        assert!(text.contains("is no header's") && !text.contains("hunter2"), "{text}");
        let headers = [("x".to_owned(), "{{secret:a b}}".to_owned())].into();
        let text = reason(vec![HostRule { headers, ..rule("a.b") }]);
        assert!(text.contains("names no secret"), "{text}");
    }

    #[test]
    fn a_token_that_is_named_is_there() {
        let headers = [("authorization".to_owned(), "Bearer {{token:t}}".to_owned())].into();
        let rules = vec![HostRule { headers, ..rule("a.b") }];
        let token = identity::Token { audience: "them".to_owned() };
        let tokens = [("t".to_owned(), token)].into();
        check(&Credentials { rules: rules.clone(), tokens, proxy: None }).unwrap();
        assert!(reason(rules).contains("the sandbox has no token \"t\""));
    }

    #[test]
    fn a_rule_does_something() {
        let empty = HostRule { host: "a.b".to_owned(), ..HostRule::default() };
        assert!(reason(vec![empty.clone()]).contains("expected `headers`"));
        let paths = ["repos/**".to_owned()].into();
        assert!(reason(vec![HostRule { paths, ..empty }]).contains("the path"));
    }

    #[test]
    fn a_proxy_has_a_host_and_a_port() {
        let proxy = |host: &str, port, user: Option<&str>, password: Option<&str>| {
            let (kind, host) = (ProxyKind::Socks5, host.to_owned());
            let user = user.map(str::to_owned);
            let password = password.map(str::to_owned);
            let proxy = Some(Proxy { kind, host, port, user, password });
            check(&Credentials { proxy, ..Credentials::default() }).is_ok()
        };
        assert!(proxy("proxy.example", 1080, Some("me"), Some("{{secret:P}}")));
        assert!(proxy("2001:db8::1", 1080, None, None));
        assert!(!proxy("proxy.example", 0, None, None));
        assert!(!proxy("*.example", 1080, None, None));
        assert!(!proxy("proxy.example", 1080, None, Some("x")));
        assert!(!proxy("proxy.example", 1080, Some("a:b"), None));
    }
}
