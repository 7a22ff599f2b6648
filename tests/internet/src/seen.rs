//! What has arrived at the servers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// What has arrived, in its order.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    requests: Vec<Request>,
    proxied: Vec<String>,
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name that the client gave in TLS; none without TLS too.
    pub tls_name: Option<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// `GET` and so on.
    pub method: String,
    /// What comes after it: a path, with h2 a whole URI.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Names in lower case with their values.
    pub headers: Vec<(String, String)>,
    /// Who connected.
    pub peer: Option<SocketAddr>,
    /// To which address.
    pub local: Option<SocketAddr>,
}

impl Request {
    /// The value of a header; the first where there are more.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

impl Seen {
    /// Every request of HTTP.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.with(|lists| lists.requests.clone())
    }

    /// What the proxies were asked for, such as `socks5 one.example:443`; those that were turned
    /// away have `refused` at the end.
    #[must_use]
    pub fn proxied(&self) -> Vec<String> {
        self.with(|lists| lists.proxied.clone())
    }

    pub(crate) fn request(&self, request: Request) {
        self.with(|lists| lists.requests.push(request));
    }

    pub(crate) fn proxy(&self, asked: String) {
        self.with(|lists| lists.proxied.push(asked));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Lists) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
