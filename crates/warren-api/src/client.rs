//! A typed client of the API, over byte streams of the caller's choosing.
//!
//! One [`Client`] holds a few kept-alive connections and opens more as requests overlap. A request
//! is repeated by itself only while nothing of its answer has arrived, and only when repeating is
//! harmless: when it was never sent, when its method is idempotent, or under an idempotency key.

mod connect;
mod credentials;

mod endpoint;

mod remote;

mod link;

mod lines;

mod sandboxes;
mod secrets;

mod snapshots;

mod exec;

mod files;

mod events;

mod diff;
mod logs;
mod network;

mod templates;

mod ports;

mod server;

mod access;

mod images;
mod volumes;

mod domains;
mod git;

use std::{io, ops::RangeInclusive, path::Path, sync::Mutex, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

pub use connect::{Connect, Connecting, Connection, UnixSocket};
pub use diff::DiffStream;
pub use endpoint::{ApiKey, Authority, Endpoint, InvalidApiKey, InvalidEndpoint};
pub use events::EventStream;
pub use exec::{ExecMessage, ExecReceiver, ExecSender, ExecStream};
pub use files::{FileStream, WatchStream};
pub use images::{Transfer, TransferStream};
pub use logs::LogStream;
pub use ports::ListenerStream;
pub use remote::{Remote, RemoteError};
pub use sandboxes::PortStream;
pub use templates::BuildStream;

use crate::{Code, ErrorBody, IDEMPOTENCY_KEY};
use link::{Body, Link, Reply, SendError};

/// How often a request that may be repeated is sent in all.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; each further one is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A client of one server. Its methods may be called at the same time.
#[derive(Debug)]
pub struct Client {
    connector: Box<dyn Connect>,
    /// What every request carries.
    headers: HeaderMap,
    idle: Mutex<Vec<Link>>,
}

impl Client {
    /// A client whose connections `connector` opens.
    #[must_use]
    pub fn new(connector: impl Connect) -> Self {
        let host = (header::HOST, HeaderValue::from_static("warren"));
        let headers = HeaderMap::from_iter([host]);
        Self { connector: Box::new(connector), headers, idle: Mutex::new(Vec::new()) }
    }

    /// A client of the server at `endpoint`, which shows it `key` with every request. For `ca` see
    /// [`Remote::new`].
    ///
    /// # Errors
    ///
    /// As [`Remote::new`].
    pub fn remote(
        endpoint: Endpoint,
        key: Option<&ApiKey>,
        ca: Option<&Path>,
    ) -> Result<Self, RemoteError> {
        let host = HeaderValue::try_from(endpoint.host_header());
        let mut client = Self::new(Remote::new(endpoint, key.is_some(), ca)?);
        // An endpoint's host has only characters that a header may have.
        if let Ok(host) = host {
            client.headers.insert(header::HOST, host);
        }
        if let Some(key) = key {
            client.headers.insert(header::AUTHORIZATION, key.header());
        }
        Ok(client)
    }

    /// The same client, acting in the project of this name. On the server's own host any will do;
    /// a key acts in its own alone.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] for a name with characters that no header has.
    pub fn in_project(mut self, name: &str) -> Result<Self, ClientError> {
        let value =
            HeaderValue::from_str(name).map_err(ClientError::transport("name the project"))?;
        self.headers.insert(crate::PROJECT, value);
        Ok(self)
    }

    /// Sends a request with a JSON body and reads a JSON answer.
    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let reply = self.send(&call).await?;
        let body = self.read(reply).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode { source })
    }

    /// Sends a request whose answer has no body.
    async fn empty(&self, call: Call) -> Result<(), ClientError> {
        let reply = self.send(&call).await?;
        self.read(reply).await?;
        Ok(())
    }

    /// Sends a request, again where that is harmless, and gives the head of a successful answer.
    async fn send(&self, call: &Call) -> Result<Reply, ClientError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match self.attempt(call).await {
                Ok(reply) => return self.accept(reply).await,
                Err(error) => error,
            };
            let harmless = call.repeatable || error.unsent;
            if attempt == ATTEMPTS
                || !harmless
                || matches!(error.error, ClientError::Connect { .. })
            {
                return Err(error.error);
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, SendError> {
        let mut link = self.link().await.map_err(SendError::unsent)?;
        let reply = link.send(call.request(&self.headers, Body::full(call.body.clone()))).await?;
        Ok(reply.over(link))
    }

    /// A connection that waits for a request: a kept one, else a new one.
    async fn link(&self) -> Result<Link, ClientError> {
        while let Some(mut link) = self.kept() {
            if link.ready().await {
                return Ok(link);
            }
        }
        let connection =
            self.connector.connect().await.map_err(|source| ClientError::Connect { source })?;
        Link::open(connection, self.connector.is_unix()).await
    }

    fn kept(&self) -> Option<Link> {
        self.idle.lock().ok()?.pop()
    }

    /// Turns an answer that is no success into its error.
    async fn accept(&self, reply: Reply) -> Result<Reply, ClientError> {
        let status = reply.status;
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(reply);
        }
        let body = self.read(reply).await?;
        Err(ClientError::Refused(refusal(status, &body)))
    }

    /// Reads an answer to its end and keeps its connection for the next request.
    async fn read(&self, mut reply: Reply) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        if let (Some(link), Ok(mut idle)) = (reply.into_link(), self.idle.lock()) {
            idle.push(link);
        }
        Ok(body)
    }
}

/// The error that a response without success stands for.
fn refusal(status: StatusCode, body: &[u8]) -> ErrorBody {
    serde_json::from_slice(body).unwrap_or_else(|_not_ours| {
        let code = Code::from_http_status(status.as_u16());
        ErrorBody::new(code, format!("the server answered {status} without saying why"))
    })
}

/// A request that can be sent more than once.
#[derive(Debug)]
struct Call {
    method: Method,
    target: String,
    accept: &'static str,
    idempotency_key: Option<String>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: bytes::Bytes,
    repeatable: bool,
}

impl Call {
    fn new(method: Method, target: String) -> Self {
        // POST may do a thing twice; what else this API has may not.
        let repeatable = method != Method::POST;
        Self {
            method,
            target,
            accept: "application/json",
            idempotency_key: None,
            headers: Vec::new(),
            body: bytes::Bytes::new(),
            repeatable,
        }
    }

    /// Asks for these bytes of what is answered alone.
    fn within(&mut self, range: Option<RangeInclusive<u64>>) -> Result<(), ClientError> {
        if let Some(range) = range {
            let value = format!("bytes={}-{}", range.start(), range.end());
            let value = HeaderValue::from_str(&value);
            let value = value.map_err(ClientError::transport("name the range"))?;
            self.headers.push((header::RANGE, value));
        }
        Ok(())
    }

    fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target.into())
    }

    fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target.into())
    }

    fn with_json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        self.body =
            serde_json::to_vec(body).map_err(|source| ClientError::Encode { source })?.into();
        self.headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        Ok(self)
    }

    fn accepting(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }

    /// Makes repeating harmless: the server answers the second of the same key like the first.
    fn with_key(mut self, key: String) -> Self {
        self.idempotency_key = Some(key);
        self.repeatable = true;
        self
    }

    fn request(&self, always: &HeaderMap, body: Body) -> http::Request<Body> {
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        // Targets are made here alone, of literals and encoded parts.
        *request.uri_mut() = self.target.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(always);
        headers.insert(header::ACCEPT, HeaderValue::from_static(self.accept));
        headers.extend(self.headers.iter().cloned());
        if let Some(key) = self.idempotency_key.as_deref().map(HeaderValue::from_str)
            && let Ok(key) = key
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        request
    }
}

/// Writes `text` as one part of a path or one value of a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A query under construction.
#[derive(Debug, Default)]
struct Query(String);

impl Query {
    fn with(mut self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encoded(value.as_ref()));
        }
        self
    }
}

/// Why a request gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection could be opened.
    #[error("could not reach the server")]
    Connect {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("could not {operation}")]
    Transport {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server answered with an error.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The request could not be written as JSON.
    #[error("could not write the request")]
    Encode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is not what this version of the API says.
    #[error("could not understand the server's answer")]
    Decode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The server's code, or `unavailable` where the server could not be reached.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(body) => body.code,
            Self::Connect { .. } | Self::Transport { .. } => Code::Unavailable,
            Self::Encode { .. } => Code::InvalidArgument,
            Self::Decode { .. } => Code::Internal,
        }
    }

    /// A stream that stopped without having come to its end.
    #[must_use]
    pub fn ended_early() -> Self {
        Self::transport("read on")("the server ended the stream before its end")
    }

    fn transport<E>(operation: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Transport { operation, source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_in_a_target_is_encoded() {
        assert_eq!(encoded("/home/a b?ü"), "%2Fhome%2Fa%20b%3F%C3%BC");
        let query = Query::default().with("path", Some("/a")).with("user", None::<&str>);
        assert_eq!(query.with("mode", Some("0644")).0, "?path=%2Fa&mode=0644");
    }

    #[test]
    fn a_refusal_without_our_body_still_has_a_code() {
        let body = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(body.code, Code::Unavailable);
        assert!(body.message.contains("502"), "{}", body.message);
    }
}
