//! Who is let in to a port, and what of a request is for the edge alone.
//!
//! Everybody to a public port. To a private one whoever shows a token: in a header, in the query,
//! or in a cookie that the edge has set. Keys of the API open nothing here, and whatever has the
//! form of one is taken out: a guest must never see one.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use warren_core::{clock::Timestamp, exposure::Exposure};

use super::{
    agent,
    answer::{Refusal, wants_page},
    place::{self, Destination, Names, ROUTING},
    token::{Grant, Secret, Signer, Verdict},
};

/// The header that shows a token.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-warren-token");

/// The parameter of the query, and the cookie, that show one.
pub(super) const NAME: &str = "warren_token";

/// The cookie's name over TLS: browsers take it from this very host alone.
const SECURE_NAME: &str = "__Host-warren_token";

/// How many cookies of our name are looked at: a page of another host may add some.
const MOST_COOKIES: usize = 8;

/// For how long a browser keeps the cookie of a token without an end, in seconds.
const COOKIE_SECONDS: u64 = 30 * 24 * 3600;

/// Headers that may show a key of the API.
const KEY_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

/// How keys of the API begin.
const KEY_PREFIXES: [&str; 2] = ["wrn_", "e2b_"];

/// A visitor who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// The token that was shown; none for a public port without one.
    pub(super) grant: Option<Grant>,
    /// The token in the query of somebody who should have it in a cookie.
    pub(super) to_cookie: Option<String>,
    /// Whether a paused sandbox goes on for it, whatever its owner lets others do.
    pub(super) wakes: bool,
}

/// Looks whether a request is let in to a port of a sandbox that has this exposure.
pub(super) fn look<B>(
    (signer, names): (&Signer, Names<'_>),
    (at, exposure): (&Destination, &Exposure),
    request: &Request<B>,
    now: Timestamp,
) -> Result<Pass, Refusal> {
    let now = now.as_millis() / 1000;
    let mut expired = false;
    let mut good = |token: &str| {
        match signer.check((at.id, exposure.revision), at.port, token, now) {
            Verdict::Good(grant) => return Some(grant),
            Verdict::Expired => expired = true,
            Verdict::Bad => {}
        }
        None
    };
    let headers = request.headers();
    let in_query = token_in(request.uri());
    let from_query = in_query.and_then(&mut good);
    let from_header = headers.get_all(TOKEN).iter().filter_map(|it| it.to_str().ok());
    let grant = from_query.or_else(|| from_header.take(2).find_map(&mut good)).or_else(|| {
        let ours = at.by_host && is_own_page(request.method(), headers, at, names);
        ours.then(|| cookies(headers).take(MOST_COOKIES).find_map(&mut good)).flatten()
    });
    if grant.is_none() && !at.open && !exposure.is_public(at.port) {
        return match exposure.e2b {
            Some(_) => by_traffic_token(signer, (at, exposure), headers),
            None => Err(if expired { Refusal::Expired } else { Refusal::Unknown }),
        };
    }
    let visits = matches!(*request.method(), Method::GET | Method::HEAD) && wants_page(headers);
    let to_cookie = in_query.filter(|_| from_query.is_some() && at.by_host && visits);
    Ok(Pass { grant, to_cookie: to_cookie.map(ToOwned::to_owned), wakes: grant.is_some() })
}

/// Whether a request shows the token that opens all ports to clients of E2B.
fn by_traffic_token(
    signer: &Signer,
    (at, exposure): (&Destination, &Exposure),
    headers: &HeaderMap,
) -> Result<Pass, Refusal> {
    let token = signer.secret(at.id, exposure.revision, Secret::Traffic);
    let shown = headers.get(agent::TRAFFIC).ok_or(Refusal::Forbidden)?;
    if !agent::same(shown.as_bytes(), token.as_bytes()) {
        return Err(Refusal::Forbidden);
    }
    let grant = Some(Grant { port: None, expires: None });
    Ok(Pass { grant, to_cookie: None, wakes: false })
}

/// Whether a cookie counts: browsers send it with whatever any page makes them ask.
///
/// Hosts of sandboxes are of one site for a browser, so `SameSite` does not keep their pages apart.
fn is_own_page(method: &Method, headers: &HeaderMap, at: &Destination, names: Names<'_>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text("origin") {
        // A page of another port of the same sandbox is no stranger.
        return place::of_origin(names, origin) == Some(at.id);
    }
    match text("sec-fetch-site") {
        None | Some("same-origin" | "none") => true,
        // Somebody followed a link.
        Some(_) => {
            matches!(*method, Method::GET | Method::HEAD)
                && text("sec-fetch-mode") == Some("navigate")
                && text("sec-fetch-dest") == Some("document")
        }
    }
}

/// The tokens in cookies of our name.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| is_our_cookie(name.trim()))
        .map(|(_, value)| value.trim())
}

/// Whether a cookie of this name is the edge's own.
pub(super) fn is_our_cookie(name: &str) -> bool {
    name == NAME || name == SECURE_NAME
}

/// The first token in a query.
fn token_in(uri: &Uri) -> Option<&str> {
    pairs(uri.query()?).find_map(|(name, value)| (name == NAME).then_some(value))
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Path and query of a target without the token.
pub(super) fn without_token(uri: &Uri) -> String {
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let Some(query) = uri.query() else { return path.to_owned() };
    if token_in(uri).is_none() {
        return format!("{path}?{query}");
    }
    let left: Vec<&str> = query
        .split('&')
        .filter(|pair| pair.split_once('=').map_or(*pair, |(name, _)| name) != NAME)
        .collect();
    if left.is_empty() { path.to_owned() } else { format!("{path}?{}", left.join("&")) }
}

/// Takes out of a request what is for the edge alone.
pub(super) fn strip(headers: &mut HeaderMap) {
    headers.remove(TOKEN);
    headers.remove(agent::TRAFFIC);
    for (id, port, _) in ROUTING {
        headers.remove(id);
        headers.remove(port);
    }
    for name in KEY_HEADERS {
        let shows_key = headers.get_all(name).iter().any(is_api_key);
        if shows_key {
            headers.remove(name);
        }
    }
    strip_cookies(headers);
}

fn is_api_key(value: &HeaderValue) -> bool {
    let text = value.as_bytes().trim_ascii();
    let text = match text.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest.trim_ascii_start(),
        _ => text,
    };
    KEY_PREFIXES.iter().any(|prefix| text.starts_with(prefix.as_bytes()))
}

/// Takes our cookies out, and makes one header of several: HTTP/2 may split it, HTTP/1.1 may not.
fn strip_cookies(headers: &mut HeaderMap) {
    let ours = cookies(headers).next().is_some();
    let several = headers.get_all(header::COOKIE).iter().nth(1).is_some();
    if !ours && !several {
        return;
    }
    let mut left = Vec::new();
    for value in headers.get_all(header::COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            let ours = std::str::from_utf8(name).is_ok_and(|name| is_our_cookie(name.trim()));
            if !pair.is_empty() && !ours {
                left.push(pair);
            }
        }
    }
    let joined = left.join(&b"; "[..]);
    headers.remove(header::COOKIE);
    if let (Ok(joined), false) = (HeaderValue::from_bytes(&joined), joined.is_empty()) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The `Set-Cookie` that has a browser show this token from now on.
pub(super) fn cookie(
    token: &str,
    grant: Grant,
    secure: bool,
    now: Timestamp,
) -> Option<HeaderValue> {
    let now = now.as_millis() / 1000;
    let seconds = grant.expires.map_or(COOKIE_SECONDS, |at| at.saturating_sub(now));
    let (name, more) = if secure { (SECURE_NAME, "; Secure") } else { (NAME, "") };
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{more}");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use warren_core::exposure::ForE2b;

    use super::*;
    use crate::edge::{place::Dialect, token::EdgeKey};

    const NAMES: Names<'_> = Names {
        domain: "localhost",
        others: &|name| {
            let id = match name {
                "app.example.com" => "sb-aaaaaaaaaaaaaaaa",
                "other.example.com" => "sb-bbbbbbbbbbbbbbbb",
                _ => return None,
            };
            Some((id.parse().unwrap(), 3000, false))
        },
    };
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    struct Door {
        signer: Signer,
        at: Destination,
        exposure: Exposure,
    }

    impl Door {
        fn new() -> Self {
            let id = "sb-aaaaaaaaaaaaaaaa".parse().unwrap();
            let dialect = Dialect::Native;
            let at = Destination { id, port: 3000, by_host: true, open: false, dialect };
            let signer = Signer::new(&EdgeKey::random());
            Self { signer, at, exposure: Exposure::default() }
        }

        fn token(&self, port: Option<u16>, expires: Option<u64>) -> String {
            self.signer.sign(self.at.id, self.exposure.revision, Grant { port, expires })
        }

        fn look(&self, target: &str, pairs: &[(&'static str, String)]) -> Result<Pass, Refusal> {
            let mut request = Request::get(target);
            for (name, value) in pairs {
                request = request.header(*name, value);
            }
            let request = request.body(()).unwrap();
            look((&self.signer, NAMES), (&self.at, &self.exposure), &request, NOW)
        }
    }

    #[test]
    fn a_private_port_opens_to_a_token_wherever_it_is_shown() {
        let door = Door::new();
        let token = door.token(Some(3000), None);
        assert_eq!(door.look("/", &[]), Err(Refusal::Unknown));
        for (target, pairs) in [
            ("/", vec![("x-warren-token", token.clone())]),
            (&*format!("/a?b=c&warren_token={token}&d"), vec![]),
            ("/", vec![("cookie", format!("a=b; warren_token={token}"))]),
            ("/", vec![("cookie", format!("warren_token=x; __Host-warren_token={token}"))]),
        ] {
            let pass = door.look(target, &pairs).unwrap();
            assert!(pass.grant.is_some() && pass.to_cookie.is_none(), "{target}");
        }
        assert_eq!(
            door.look("/", &[("x-warren-token", door.token(Some(3001), None))]),
            Err(Refusal::Unknown)
        );
        assert_eq!(
            door.look("/", &[("x-warren-token", door.token(None, Some(1000)))]),
            Err(Refusal::Expired)
        );
        assert_eq!(door.look("/?warren_token=", &[]), Err(Refusal::Unknown));
    }

    #[test]
    fn everybody_passes_to_a_public_port_and_wakes_nothing() {
        let mut door = Door::new();
        door.exposure.public.insert(3000);
        assert_eq!(door.look("/", &[]).unwrap().grant, None);
        let bad = [("x-warren-token", "wrt_0_0_x".to_owned())];
        assert_eq!(door.look("/", &bad).unwrap().grant, None);
        // The same by a name that is open, on a port that is not.
        let mut door = Door::new();
        door.at.open = true;
        assert_eq!(door.look("/", &[]).unwrap().grant, None);
    }

    #[test]
    fn clients_of_e2b_reach_all_ports_or_show_the_token_for_them() {
        let mut door = Door::new();
        door.exposure.e2b = Some(ForE2b { secured: true, public: true });
        assert_eq!(door.look("/", &[]).unwrap().grant, None);
        door.exposure.e2b = Some(ForE2b { secured: true, public: false });
        let token = |of| ("e2b-traffic-access-token", door.signer.secret(door.at.id, 0, of));
        let pass = door.look("/", &[token(Secret::Traffic)]).unwrap();
        assert!(pass.grant.is_some() && !pass.wakes);
        for pairs in [vec![], vec![token(Secret::Access)]] {
            assert_eq!(door.look("/", &pairs), Err(Refusal::Forbidden));
        }
        // Links of the native API go on to work.
        assert!(door.look("/", &[("x-warren-token", door.token(None, None))]).unwrap().wakes);
    }

    #[test]
    fn a_link_in_a_browser_becomes_a_cookie() {
        let door = Door::new();
        let token = door.token(Some(3000), Some(1060));
        let page = [("accept", "text/html".to_owned())];
        let pass = door.look(&format!("/?warren_token={token}"), &page).unwrap();
        assert_eq!(pass.to_cookie.as_deref(), Some(&*token));
        let cookie = cookie(&token, pass.grant.unwrap(), true, NOW).unwrap();
        let expected = format!(
            "__Host-warren_token={token}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(cookie, expected);
        // Who names the sandbox in headers shares the host with others.
        let mut door = door;
        door.at.by_host = false;
        let pass = door.look(&format!("/?warren_token={token}"), &page).unwrap();
        assert_eq!(pass.to_cookie, None);
        let cookie = [("cookie", format!("warren_token={token}"))];
        assert_eq!(door.look("/", &cookie), Err(Refusal::Unknown));
    }

    #[test]
    fn a_cookie_counts_for_pages_of_the_sandbox_alone() {
        let door = Door::new();
        let cookie = ("cookie", format!("warren_token={}", door.token(None, None)));
        let check = |pairs: &[(&'static str, &str)], passes: bool| {
            let mut all = vec![cookie.clone()];
            all.extend(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())));
            assert_eq!(door.look("/", &all).is_ok(), passes, "{pairs:?}");
        };
        check(&[("origin", "http://3000-sb-aaaaaaaaaaaaaaaa.localhost:7423")], true);
        check(&[("origin", "http://8000-sb-aaaaaaaaaaaaaaaa.localhost:7423")], true);
        check(&[("origin", "http://3000-sb-bbbbbbbbbbbbbbbb.localhost:7423")], false);
        check(&[("origin", "https://evil.example")], false);
        check(&[("origin", "https://app.example.com")], true);
        check(&[("origin", "https://other.example.com")], false);
        check(&[("origin", "null")], false);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "same-site")], false);
        let followed = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        check(&[("sec-fetch-site", "cross-site"), followed[0], followed[1]], true);
        let framed = ("sec-fetch-dest", "iframe");
        check(&[("sec-fetch-site", "same-site"), followed[0], framed], false);
    }

    #[test]
    fn nothing_that_is_for_the_edge_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-warren-token", "wrt_0_0_a"),
            ("e2b-traffic-access-token", "a"),
            ("warren-sandbox", "a"),
            ("warren-port", "1"),
            ("e2b-sandbox-id", "a"),
            ("e2b-sandbox-port", "1"),
            ("authorization", "Bearer wrn_0123"),
            ("x-api-key", "e2b_0123"),
            ("cookie", "a=1; warren_token=wrt_0_0_a"),
            ("cookie", "__Host-warren_token=b;b=2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
        assert_eq!(headers["cookie"], "a=1; b=2");
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer app"));
        headers.insert("x-api-key", HeaderValue::from_static("app"));
        headers.insert("cookie", HeaderValue::from_static("__Host-warren_token=b"));
        strip(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
    }

    #[test]
    fn a_target_keeps_everything_but_the_token() {
        let check = |target: &str, expected: &str| {
            assert_eq!(without_token(&target.parse().unwrap()), expected);
        };
        check("/a?b=c&warren_token=x&d=%20", "/a?b=c&d=%20");
        check("/a?warren_token=x", "/a");
        check("/a?warren_tokens=x", "/a?warren_tokens=x");
        check("/a?b", "/a?b");
        check("http://h?warren_token=x", "/");
        check("//evil.example/?warren_token=x", "//evil.example/");
    }
}
