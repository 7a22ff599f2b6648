//! Who asks: found out before the routes, put into each request, taken out by each handler.
//!
//! ```text
//! unix socket ── the kernel says which user ─▶ a host caller, in `default` or the project named
//! TCP ── which page, which host? ── a key ───▶ a caller in the key's project, at its rate
//!                                └─ no key ──▶ 401; on loopback with `Access::Open`: `default`
//! ```
//!
//! Whatever comes over TCP is no host caller: it commands neither the server nor its files.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use warren_api::{Code, PROJECT};
use warren_core::{
    Caller,
    access::{self, Authenticated},
    caller::Owner,
    id::KeyId,
};
use warren_http::neighbourhood;

use crate::{
    app::App,
    e2b,
    error::ApiError,
    origin::{self, Page},
};

/// What anybody may ask who can reach the server, without a key.
pub const OPEN: [&str; 3] = ["/v1/health", "/v1/ready", "/v1/openapi.json"];

/// What a key for metrics may ask, and no key of a project.
pub(crate) const METRICS: &str = "/v1/metrics";

/// How clients that cannot use `Authorization` send their key.
const API_KEY: &str = "x-api-key";

/// A handler's parameter that only a known caller can give.
#[derive(Debug)]
pub(crate) struct Known(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.clone())),
            None => Err(ApiError::new(
                Code::Unauthenticated,
                "this socket is for the user who runs the server, and for nobody else",
            )),
        }
    }
}

/// A handler's parameter that only a host caller can give: refused before the request is read.
#[derive(Debug)]
pub(crate) struct HostCaller(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for HostCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Known(caller) = Known::from_request_parts(parts, state).await?;
        caller.require_host("do this, on its unix socket")?;
        Ok(Self(caller))
    }
}

/// A handler's parameter that only those can give who may read the server's metrics: host callers,
/// keys for metrics, and whoever reaches a server without keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricsReader;

impl<S: Sync> FromRequestParts<S> for MetricsReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if let Some(reader) = parts.extensions.get::<Self>() {
            return Ok(*reader);
        }
        let Known(caller) = Known::from_request_parts(parts, state).await?;
        caller.require_host("read its metrics; a key for metrics reads them from afar")?;
        Ok(Self)
    }
}

/// The way on which a request came.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// The unix socket, from somebody whom the kernel vouches for, or does not.
    Local(Option<Caller>),
    /// TCP.
    Tcp {
        /// From where.
        address: IpAddr,
        /// Who is let in.
        access: Access,
        /// Whether it is encrypted.
        tls: bool,
    },
}

/// Who is let in over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever shows a key.
    Keys,
    /// Everybody who is on this machine; for loopback addresses alone.
    Open,
    /// Whoever asks for a port of a sandbox, and for nothing else: the API is not served.
    Ports,
}

/// The caller behind a unix socket, when the kernel says that it is the server's user or root.
///
/// A server of an ordinary user is in a user namespace, where the kernel calls root by the number
/// that stands for all whom the namespace does not know: there root is nobody.
pub(crate) fn peer(server_uid: u32, peer_uid: u32) -> Option<Caller> {
    (peer_uid == server_uid || peer_uid == 0).then(Caller::local)
}

/// Lets a request in: whoever asks is in its extensions then.
///
/// Gives the page of another origin that it is made for, where there is one.
pub(crate) fn admit<B>(
    app: &App,
    way: &Way,
    request: &mut axum::http::Request<B>,
) -> Result<Option<Page>, ApiError> {
    let page = origin::page(request.headers(), &app.config().origins)?;
    if let Way::Tcp { access: Access::Open, .. } = way {
        origin::require_loopback(request.uri(), request.headers())?;
    }
    if page.is_some() && Page::asks_first(request.method(), request.headers()) {
        return Ok(page);
    }
    let caller = match way {
        Way::Local(caller) => caller.clone(),
        Way::Tcp { .. } if is_open(request.uri().path()) => None,
        Way::Tcp { address, access, .. } => match shown(app, *access, request)? {
            Some(key) => by_key(app, *address, &key, request)?,
            None if *access == Access::Open => {
                request.extensions_mut().insert(MetricsReader);
                Some(Caller::remote(Owner::new(access::DEFAULT)))
            }
            None => return Err(refused(app, *address, "this server asks for an API key")),
        },
    };
    if let Some(caller) = caller {
        let caller = in_project(app, caller, request.headers())?;
        request.extensions_mut().insert(caller);
    }
    Ok(page)
}

/// Whether a path is served without a key.
fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || e2b::is_open(path)
}

/// The key that a request shows. E2B's clients cannot do without one: where none is needed, one
/// that is not known says nothing.
fn shown<B>(
    app: &App,
    access: Access,
    request: &axum::http::Request<B>,
) -> Result<Option<String>, ApiError> {
    let key = key(request.headers())?;
    let needless = access == Access::Open && e2b::is_asked(request.uri().path());
    let known = key.filter(|key| !needless || app.sandboxes.authenticate(key).is_ok());
    Ok(known.map(ToOwned::to_owned))
}

/// The caller that a key stands for; none for a key that stands for nobody.
fn by_key<B>(
    app: &App,
    address: IpAddr,
    key: &str,
    request: &mut axum::http::Request<B>,
) -> Result<Option<Caller>, ApiError> {
    let found = app.sandboxes.authenticate(key);
    match found.map_err(|error| refused(app, address, &error.to_string()))? {
        Authenticated::Caller(caller) => {
            if let Some(key) = caller.key() {
                take_turn(app, key)?;
            }
            Ok(Some(caller))
        }
        Authenticated::Metrics(key) => {
            take_turn(app, key)?;
            if request.uri().path() != METRICS || request.method() != Method::GET {
                let message = "this key reads the server's metrics and nothing else";
                return Err(ApiError::new(Code::PermissionDenied, message));
            }
            request.extensions_mut().insert(MetricsReader);
            Ok(None)
        }
    }
}

/// The key that a request shows.
fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let refuse = |message| Err(ApiError::new(Code::Unauthenticated, message));
    let mut shown = Vec::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        match bearer {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => shown.push(key.trim()),
            _ => return refuse("Authorization: expected `Bearer` and an API key"),
        }
    }
    for value in headers.get_all(API_KEY) {
        match value.to_str() {
            Ok(key) => shown.push(key.trim()),
            Err(_not_text) => return refuse("X-API-Key: expected an API key"),
        }
    }
    match shown.as_slice() {
        [] => Ok(None),
        [key, others @ ..] if others.iter().all(|other| other == key) => Ok(Some(key)),
        _ => refuse("this request shows different API keys; expected one"),
    }
}

/// The refusal of somebody who is not known, who is slowed down if there were many.
///
/// A key that is good is let in from the same address all the same: there may be a proxy. Keys
/// cannot be guessed; this spares the log and the processor.
fn refused(app: &App, address: IpAddr, message: &str) -> ApiError {
    match app.failures().take(neighbourhood(address), Instant::now()) {
        Ok(()) => ApiError::new(Code::Unauthenticated, message),
        Err(wait) => {
            let message = "there were too many requests from this address without a good API key";
            ApiError::new(Code::ResourceExhausted, message).retry_after(wait)
        }
    }
}

/// Counts a request of a key.
fn take_turn(app: &App, key: KeyId) -> Result<(), ApiError> {
    let Some(turns) = app.turns() else { return Ok(()) };
    turns.take(key, Instant::now()).map_err(|wait: Duration| {
        let limit = app.config().requests_per_second;
        let message = format!("this key may make {limit} requests a second");
        ApiError::new(Code::ResourceExhausted, message).retry_after(wait)
    })
}

/// The caller in the project that the request names.
fn in_project(app: &App, caller: Caller, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let Some(name) = headers.get(PROJECT) else { return Ok(caller) };
    let name = name.to_str().map_err(|error| ApiError::invalid(PROJECT, error))?;
    Ok(app.sandboxes.in_project(&caller, name)?)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_the_same_user_and_root_are_known() {
        assert!(peer(1000, 1000).is_some());
        assert!(peer(1000, 0).is_some());
        assert!(peer(1000, 1001).is_none());
        assert!(peer(0, 1000).is_none());
    }

    #[test]
    fn a_key_is_shown_in_one_of_two_ways() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Result<Option<&str>, ()>| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::from_static(name);
                headers.append(name, HeaderValue::from_static(value));
            }
            assert_eq!(key(&headers).map_err(|_refused| ()), expected, "{pairs:?}");
        };
        check(&[], Ok(None));
        check(&[("authorization", "Bearer k")], Ok(Some("k")));
        check(&[("authorization", "bearer  k ")], Ok(Some("k")));
        check(&[("x-api-key", "k")], Ok(Some("k")));
        check(&[("x-api-key", "k"), ("authorization", "Bearer k")], Ok(Some("k")));
        check(&[("x-api-key", "k"), ("authorization", "Bearer l")], Err(()));
        check(&[("x-api-key", "k"), ("x-api-key", "l")], Err(()));
        check(&[("authorization", "Basic k")], Err(()));
        check(&[("authorization", "k")], Err(()));
    }
}
