//! The agent of a sandbox as a port of it: commands and files in the protocol of E2B's daemon.
//!
//! Who shows the sandbox's access token is let in, and for a file whoever has an address that was
//! signed with it. A sandbox whose maker asked for no token has none. The token is that of one
//! sandbox: it opens neither the API nor another sandbox, and no other port.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::Query,
    http::{HeaderMap, HeaderName, Method, Request, Uri},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use ring::digest;
use warren_core::{
    clock::Timestamp, exposure::AGENT_PORT, id::SandboxId, runtime::Duplex, sandbox::Sandbox,
    sandboxes::Visit, state::State,
};

use super::{
    CameBy, Edge,
    answer::Refusal,
    h2c,
    pass::Pass,
    place::{Destination, Dialect},
    token::{Grant, Secret, Signer},
};
use crate::app::App;

/// The header that shows the access token.
pub(super) const ACCESS: HeaderName = HeaderName::from_static("x-access-token");

/// The header that shows the token for all other ports.
pub(super) const TRAFFIC: HeaderName = HeaderName::from_static("e2b-traffic-access-token");

/// How many sandboxes of E2B's clients are remembered.
const REMEMBERED: usize = 4096;

/// The sandboxes of E2B's clients that were seen last: one that is gone is to be told of in the
/// words of those who ask, and nothing else says who they are.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<VecDeque<SandboxId>>);

impl Remembered {
    fn add(&self, id: SandboxId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.back() == Some(&id) || ids.contains(&id) {
            return;
        }
        if ids.len() >= REMEMBERED {
            ids.pop_front();
        }
        ids.push_back(id);
    }

    fn has(&self, id: SandboxId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

impl Edge {
    /// What clients show to reach the agent of this sandbox. It stays the same for as long as its
    /// tokens are not revoked.
    pub(crate) fn access_token(&self, sandbox: &Sandbox) -> String {
        self.remembered.add(sandbox.id);
        self.signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Access)
    }

    /// What clients of E2B show to reach all other ports of this sandbox where they are private.
    pub(crate) fn traffic_token(&self, sandbox: &Sandbox) -> String {
        self.signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Traffic)
    }

    /// What the names of ports are below, as clients of E2B are told it: with the port, where it is
    /// not that of HTTPS.
    pub(crate) fn e2b_domain(&self, came_by: Option<CameBy>) -> String {
        let port = self.port_of_names(came_by).filter(|port| *port != 443);
        let name = self.domain();
        port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    }

    /// The destination with the dialect that whoever asks for it is used to.
    pub(super) fn spoken_to(&self, at: Destination, visit: Option<&Visit>) -> Destination {
        let e2b = at.port == AGENT_PORT
            || match visit {
                Some(visit) => visit.sandbox().exposure.e2b.is_some(),
                None => self.remembered.has(at.id),
            };
        Destination { dialect: if e2b { Dialect::E2b } else { at.dialect }, ..at }
    }

    /// Takes the access token out of a request: it is not for what listens on a port.
    pub(super) fn strip_access(&self, headers: &mut HeaderMap, sandbox: &Sandbox) {
        let Some(shown) = headers.get(ACCESS) else { return };
        let token = self.signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Access);
        if same(shown.as_bytes(), token.as_bytes()) {
            headers.remove(ACCESS);
        }
    }
}

/// Where files are read and written.
const FILES: &str = "/files";

const UNAUTHORIZED: Refusal = Refusal::Unauthorized(
    "unauthorized access, please provide a valid access token or method signing if supported",
);
const OTHER_TOKEN: Refusal =
    Refusal::Unauthorized("access token present in header but does not match");
const UNSIGNED: Refusal = Refusal::Unauthorized("missing signature query parameter");
const BAD_SIGNATURE: Refusal = Refusal::Unauthorized("invalid signature");
const OLD_SIGNATURE: Refusal = Refusal::Unauthorized("signature is already expired");

/// Looks whether a request is let in to the agent of this sandbox.
pub(super) fn look<B>(
    signer: &Signer,
    sandbox: &Sandbox,
    request: &Request<B>,
    now: Timestamp,
) -> Result<Pass, Refusal> {
    let stranger = Pass { grant: None, to_cookie: None, wakes: false };
    let known = Pass { grant: Some(Grant { port: None, expires: None }), ..stranger.clone() };
    match sandbox.exposure.e2b {
        Some(of) if !of.secured => return Ok(stranger),
        Some(_) if needs_no_token(request) => return Ok(stranger),
        _ => {}
    }
    let token = signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Access);
    let shown = request.headers().get(ACCESS).map(|shown| same(shown.as_bytes(), token.as_bytes()));
    let files = request.uri().path() == FILES;
    let looked = match shown {
        Some(true) => Ok(known),
        Some(false) if files => Err(OTHER_TOKEN),
        None if files => {
            Signed::of(request).and_then(|signed| signed.check(&token, now)).map(|()| known)
        }
        Some(false) | None => Err(UNAUTHORIZED),
    };
    // A sandbox that was not made for these clients is not there for whoever has no token.
    looked
        .map_err(|refusal| if sandbox.exposure.e2b.is_some() { refusal } else { Refusal::Unknown })
}

/// What says nothing and does nothing: whether the agent answers, and what browsers ask first.
fn needs_no_token<B>(request: &Request<B>) -> bool {
    match *request.method() {
        Method::OPTIONS => true,
        Method::GET => request.uri().path() == "/health",
        _ => false,
    }
}

/// Whether this is an address of a file that names no sandbox but by its signature.
pub(super) fn is_signed(uri: &Uri) -> bool {
    let parameters = uri.query().unwrap_or_default().split('&');
    uri.path() == FILES && parameters.into_iter().any(|it| it.starts_with("signature="))
}

/// The sandbox whose token a request was signed with.
///
/// There is one hash for each sandbox: the address names none of them.
pub(super) fn find<B>(
    (app, signer): (&App, &Signer),
    request: &Request<B>,
) -> Result<Destination, Refusal> {
    let signed = Signed::of(request)?;
    let visit = app.sandboxes().find_visit(|sandbox| {
        let token = || signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Access);
        let there = !matches!(sandbox.state, State::Stopped | State::Failed | State::Parked);
        there && signed.is_by(&token())
    });
    let id = visit.ok_or(BAD_SIGNATURE)?.sandbox().id;
    let (by_host, open, dialect) = (false, false, Dialect::E2b);
    Ok(Destination { id, port: AGENT_PORT, by_host, open, dialect })
}

/// What was signed, and the signature.
struct Signed {
    path: String,
    operation: &'static str,
    user: String,
    expiration: Option<u64>,
    signature: String,
}

impl Signed {
    fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        let parsed = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(pairs) = parsed.map_err(|_bad| BAD_SIGNATURE)?;
        let first = |name: &str| {
            let mut values = pairs.iter().filter(|(key, _)| key == name);
            values.next().map(|(_, value)| value.clone())
        };
        let signature = first("signature").filter(|it| !it.is_empty()).ok_or(UNSIGNED)?;
        let expiration = match first("signature_expiration").filter(|it| !it.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_not_a_time| BAD_SIGNATURE)?),
            None => None,
        };
        Ok(Self {
            path: first("path").unwrap_or_default(),
            operation: match *request.method() {
                Method::GET | Method::HEAD => "read",
                _ => "write",
            },
            user: first("username").unwrap_or_default(),
            expiration,
            signature,
        })
    }

    fn check(&self, token: &str, now: Timestamp) -> Result<(), Refusal> {
        if !self.is_by(token) {
            return Err(BAD_SIGNATURE);
        }
        match self.expiration {
            Some(end) if end < now.as_millis() / 1000 => Err(OLD_SIGNATURE),
            _ => Ok(()),
        }
    }

    /// Whether whoever has this token has signed it.
    fn is_by(&self, token: &str) -> bool {
        let Self { path, operation, user, expiration, signature } = self;
        let mut raw = format!("{path}:{operation}:{user}:{token}");
        if let Some(end) = expiration {
            raw.push_str(&format!(":{end}"));
        }
        let hash = digest::digest(&digest::SHA256, raw.as_bytes());
        let expected = format!("v1_{}", BASE64.encode(hash));
        same(signature.as_bytes(), expected.as_bytes())
    }
}

/// How long is waited for a port on which nothing listens yet, in milliseconds: who has just
/// started a server is used to it.
const AGAIN: [u64; 4] = [100, 200, 300, 400];

/// Opens a stream to what is asked for: the agent at its port, else what listens inside.
pub(super) async fn dial(visit: &Visit, at: Destination) -> Result<Box<dyn Duplex>, Refusal> {
    if at.port == AGENT_PORT {
        return visit.dial_agent().await.map_err(|_error| Refusal::Stopped);
    }
    let mut pauses = AGAIN.into_iter().filter(|_| at.dialect == Dialect::E2b);
    loop {
        let refusal = match visit.dial(at.port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => h2c::refusal(&error),
        };
        match pauses.next() {
            Some(pause) if refusal == Refusal::Closed => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            _ => return Err(refusal),
        }
    }
}

/// Whether two texts are the same, in a time that does not say where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the protocol's own description.
    const TOKEN: &str = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";
    const SIGNATURE: &str = "v1_gUtH%2Fs9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E";

    fn signed(method: Method, query: &str) -> Result<Signed, Refusal> {
        let request = Request::builder().method(method).uri(format!("/files?{query}"));
        Signed::of(&request.body(()).unwrap())
    }

    #[test]
    fn a_signature_is_good_for_what_was_signed_alone() {
        let check = |method: Method, query: &str, expected: Result<(), Refusal>| {
            let checked = signed(method, &format!("{query}&signature={SIGNATURE}"));
            let now = Timestamp::from_millis(1_000_000);
            assert_eq!(checked.and_then(|it| it.check(TOKEN, now)), expected, "{query}");
        };
        check(Method::GET, "path=hello.txt&username=user", Ok(()));
        check(Method::POST, "path=hello.txt&username=user", Err(BAD_SIGNATURE));
        check(Method::GET, "path=hello.txt", Err(BAD_SIGNATURE));
        check(Method::GET, "path=/hello.txt&username=user", Err(BAD_SIGNATURE));
        check(
            Method::GET,
            "path=hello.txt&username=user&signature_expiration=5",
            Err(BAD_SIGNATURE),
        );
    }

    #[test]
    fn a_signature_ends_with_its_time_and_none_is_missed() {
        let raw = format!("/a b:write::{TOKEN}:1000");
        let hash = digest::digest(&digest::SHA256, raw.as_bytes());
        let text = BASE64.encode(hash).replace('+', "%2B").replace('/', "%2F");
        let query = format!("path=%2Fa+b&signature=v1_{text}&signature_expiration=1000");
        let found = signed(Method::POST, &query).unwrap();
        assert_eq!(found.check(TOKEN, Timestamp::from_millis(1_000_999)), Ok(()));
        assert_eq!(found.check(TOKEN, Timestamp::from_millis(1_001_000)), Err(OLD_SIGNATURE));
        assert_eq!(found.check("other", Timestamp::from_millis(0)), Err(BAD_SIGNATURE));
        for query in ["path=a", "path=a&signature="] {
            assert_eq!(signed(Method::GET, query).err(), Some(UNSIGNED), "{query}");
        }
        let odd = "path=a&signature=x&signature_expiration=soon";
        assert_eq!(signed(Method::GET, odd).err(), Some(BAD_SIGNATURE));
    }

    #[test]
    fn addresses_of_files_are_told_from_the_apis_own() {
        let check = |uri: &str, expected: bool| {
            assert_eq!(is_signed(&uri.parse().unwrap()), expected, "{uri}");
        };
        check("/files?path=a&signature=v1_x", true);
        check("http://localhost/files?signature=v1_x", true);
        check("/files?path=a", false);
        check("/v1/files?signature=x", false);
    }

    #[test]
    fn texts_are_the_same_or_not() {
        for (a, b, expected) in
            [("", "", true), ("ab", "ab", true), ("ab", "ac", false), ("ab", "abc", false)]
        {
            assert_eq!(same(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
