//! What a rule does to a request: limits, placeholders, headers.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, header, request::Parts, uri::PathAndQuery,
};
use memchr::memmem;

use crate::{
    credentials::{HostRule, Placeholder},
    passport::Reason,
};

/// Fields by which some services take another method than the one in the first line.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// A request cannot be what its placeholders would make it: a value does not fit into its place.
#[derive(Debug, thiserror::Error)]
#[error("a secret does not fit into {place}")]
pub(super) struct DoesNotFit {
    place: &'static str,
}

/// Whether a rule lets the method and the path of a request pass.
pub(super) fn limits<B>(rule: &HostRule, request: &Request<B>) -> Result<(), Reason> {
    if !rule.methods.is_empty() && !rule.methods.contains(request.method()) {
        return Err(Reason::Method);
    }
    if rule.paths.is_empty() {
        return Ok(());
    }
    let path = plain_path(request.uri().path()).ok_or(Reason::Path)?;
    let fits = rule.paths.iter().any(|pattern| fast_glob::glob_match(pattern, &path));
    if fits { Ok(()) } else { Err(Reason::Path) }
}

/// A path without escapes, as it is compared. `None` for one that a service may read as another:
/// with `.` or `..` in it, an escaped slash, or an escape of an escape: some read it twice.
fn plain_path(path: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            match u8::try_from(high * 16 + low).ok()? {
                b'/' | b'%' => return None,
                other => other,
            }
        } else {
            byte
        };
        if byte == b'\\' || byte.is_ascii_control() {
            return None;
        }
        plain.push(byte);
    }
    let plain = String::from_utf8(plain).ok()?;
    // Some services cut a segment at a semicolon before they look at it.
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let odd = plain.split('/').any(dots) || plain.contains("//");
    (plain.starts_with('/') && !odd).then_some(plain)
}

/// Does to the head of a request what its rule says. Without `reveal` no secret is put into it.
pub(super) fn head(rule: &HostRule, reveal: bool, parts: &mut Parts) -> Result<(), DoesNotFit> {
    if !rule.methods.is_empty() {
        for name in OVERRIDES {
            parts.headers.remove(name);
        }
    }
    if !reveal {
        return Ok(());
    }
    for placeholder in &rule.placeholders {
        in_headers(&mut parts.headers, placeholder)?;
        if rule.places.query {
            in_query(&mut parts.uri, placeholder)?;
        }
    }
    for (name, value) in &rule.headers {
        let mut value = value.clone();
        value.set_sensitive(true);
        parts.headers.insert(name, value);
    }
    if !rule.masks.is_empty() {
        // Nothing is found in what is compressed.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    Ok(())
}

fn in_headers(headers: &mut HeaderMap, placeholder: &Placeholder) -> Result<(), DoesNotFit> {
    for (name, value) in headers.iter_mut() {
        let replaced = match replace(value.as_bytes(), placeholder) {
            Cow::Owned(replaced) => Some(replaced),
            Cow::Borrowed(_) if *name == header::AUTHORIZATION => basic(value, placeholder),
            Cow::Borrowed(_) => None,
        };
        let Some(replaced) = replaced else { continue };
        let fits = HeaderValue::from_bytes(&replaced);
        *value = fits.map_err(|_binary| DoesNotFit { place: "a header" })?;
        value.set_sensitive(true);
    }
    Ok(())
}

/// A user and a password, of which a client has already made base64.
fn basic(value: &HeaderValue, placeholder: &Placeholder) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    match replace(&decoded, placeholder) {
        Cow::Owned(replaced) => Some(format!("Basic {}", STANDARD.encode(replaced)).into_bytes()),
        Cow::Borrowed(_) => None,
    }
}

fn in_query(uri: &mut Uri, placeholder: &Placeholder) -> Result<(), DoesNotFit> {
    let Some(query) = uri.query() else { return Ok(()) };
    let value: String = placeholder.value.expose().iter().map(|byte| escaped(*byte)).collect();
    // Clients escape braces and colons, or do not.
    let escapes: String = placeholder.text.bytes().map(escaped).collect();
    let lower = escapes.replace("%7B", "%7b").replace("%7D", "%7d").replace("%3A", "%3a");
    let replaced = query.replace(&placeholder.text, &value);
    let replaced = replaced.replace(&escapes, &value).replace(&lower, &value);
    if replaced == query {
        return Ok(());
    }
    let odd = || DoesNotFit { place: "the query" };
    let target = format!("{}?{replaced}", uri.path());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_long| odd())?);
    *uri = Uri::from_parts(parts).map_err(|_long| odd())?;
    Ok(())
}

fn escaped(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    }
}

/// The bytes with every placeholder replaced; the same where there is none.
pub(super) fn replace<'a>(bytes: &'a [u8], placeholder: &Placeholder) -> Cow<'a, [u8]> {
    let text = placeholder.text.as_bytes();
    let mut places = memmem::find_iter(bytes, text).peekable();
    if places.peek().is_none() || text.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for place in places {
        replaced.extend_from_slice(bytes.get(from..place).unwrap_or_default());
        replaced.extend_from_slice(placeholder.value.expose());
        from = place + text.len();
    }
    replaced.extend_from_slice(bytes.get(from..).unwrap_or_default());
    Cow::Owned(replaced)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::{
        credentials::{HostPattern, Places, Secret},
        mask::Masks,
    };

    fn rule() -> HostRule {
        let value = Secret::new(b"s3cret/value".to_vec());
        HostRule {
            host: HostPattern::parse("a.example").unwrap(),
            headers: vec![(header::AUTHORIZATION, HeaderValue::from_static("Bearer tok"))],
            placeholders: vec![Placeholder { text: "{{secret:KEY}}".to_owned(), value }],
            places: Places::default(),
            methods: Vec::new(),
            paths: Vec::new(),
            plain: false,
            masks: Arc::new(Masks::default()),
        }
    }

    fn parts(target: &str) -> Parts {
        let request = Request::builder().uri(target);
        let request = request.header("x-key", "is {{secret:KEY}}").header("authorization", "mine");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn headers_are_set_and_placeholders_replaced() {
        let mut sent = parts("/?key={{secret:KEY}}");
        head(&rule(), true, &mut sent).unwrap();
        assert_eq!(sent.headers["x-key"], "is s3cret/value");
        assert_eq!(sent.headers["authorization"], "Bearer tok");
        assert!(sent.headers["x-key"].is_sensitive());
        // The rule does not name the query.
        assert_eq!(sent.uri, "/?key={{secret:KEY}}");
    }

    #[test]
    fn a_query_takes_the_value_escaped() {
        let mut rule = rule();
        rule.places.query = true;
        for written in ["{{secret:KEY}}", "%7B%7Bsecret%3AKEY%7D%7D", "%7b%7bsecret%3aKEY%7d%7d"] {
            let mut sent = parts(&format!("/p?a=1&key={written}"));
            head(&rule, true, &mut sent).unwrap();
            assert_eq!(sent.uri, "/p?a=1&key=s3cret%2Fvalue", "{written}");
        }
    }

    #[test]
    fn a_password_in_base64_is_replaced_too() {
        let mut rule = rule();
        rule.headers.clear();
        let mut sent = parts("/");
        let encoded = format!("Basic {}", STANDARD.encode("git:{{secret:KEY}}"));
        sent.headers.insert(header::AUTHORIZATION, encoded.parse().unwrap());
        head(&rule, true, &mut sent).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("git:s3cret/value"));
        assert_eq!(sent.headers["authorization"], expected);
    }

    #[test]
    fn nothing_is_revealed_where_it_may_not_be() {
        let mut sent = parts("/");
        head(&rule(), false, &mut sent).unwrap();
        assert_eq!(sent.headers["authorization"], "mine");
        assert_eq!(sent.headers["x-key"], "is {{secret:KEY}}");
    }

    #[test]
    fn a_secret_that_is_no_header_is_refused() {
        let mut rule = rule();
        rule.placeholders[0].value = Secret::new(b"two\r\nlines".to_vec());
        assert!(head(&rule, true, &mut parts("/")).is_err());
    }

    #[test]
    fn limits_are_of_methods_and_of_paths() {
        let mut rule = rule();
        rule.methods = vec![Method::GET];
        rule.paths = vec!["/repos/me/**".to_owned(), "/user".to_owned()];
        let check = |method, target: &str| {
            let request = Request::builder().method(method).uri(target).body(()).unwrap();
            limits(&rule, &request)
        };
        assert_eq!(check(Method::GET, "/repos/me/a/b?x"), Ok(()));
        assert_eq!(check(Method::GET, "/user"), Ok(()));
        assert_eq!(check(Method::GET, "/%75ser"), Ok(()));
        assert_eq!(check(Method::POST, "/user"), Err(Reason::Method));
        let elsewhere = [
            "/",
            "/users",
            "/repos/you/a",
            "/repos/me/../you",
            "/repos/me/%2e%2e/you",
            "/repos/me/%2E./you",
            "/repos/me/%252e%252e/you",
            "/repos/me/%25",
            "/repos/me/..;x/you",
            "/repos/me/..%2fyou",
            "/repos/me/..%5cyou",
            "/repos/me//x",
            "/repos/me/%zz",
            "/repos/me/%0a",
        ];
        for target in elsewhere {
            assert_eq!(check(Method::GET, target), Err(Reason::Path), "{target}");
        }
    }
}
