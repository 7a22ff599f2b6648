//! Sandboxes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Call, Client, ClientError, Query, encoded, link::Link};
use crate::{
    Base64, Code,
    sandbox::{CreateSandbox, ExtendSandbox, ListSandboxes, Sandbox, SandboxList},
    usage::{Metrics, PortList, TCP},
};

impl Client {
    /// Makes a sandbox and waits until it runs.
    ///
    /// A key of its own makes the request safe to repeat, so a server that is replaced under it
    /// does not lead to two sandboxes.
    ///
    /// # Errors
    ///
    /// As every method here: [`ClientError::Refused`] with the server's reason, else what broke.
    pub async fn create_sandbox(&self, request: &CreateSandbox) -> Result<Sandbox, ClientError> {
        let call = Call::post("/v1/sandboxes").with_json(request)?;
        match random_key() {
            Some(key) => self.json(call.with_key(key)).await,
            None => self.json(call).await,
        }
    }

    /// One page of sandboxes, newest first.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_sandboxes(&self, filter: &ListSandboxes) -> Result<SandboxList, ClientError> {
        let mut query = Query::default();
        for state in &filter.states {
            query = query.with("state", Some(state.as_str()));
        }
        for (key, value) in &filter.labels {
            query = query.with("label", Some(format!("{key}={value}")));
        }
        let query = query
            .with("name", filter.name.as_ref())
            .with("limit", filter.limit.map(|limit| limit.to_string()))
            .with("cursor", filter.cursor.as_ref());
        self.json(Call::get(format!("/v1/sandboxes{}", query.0))).await
    }

    /// One sandbox, by id or name.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_sandbox(&self, sandbox: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::get(path(sandbox))).await
    }

    /// Removes a sandbox with all it holds.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `not_found` when there is none.
    pub async fn delete_sandbox(&self, sandbox: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, path(sandbox))).await
    }

    /// The same, without waiting for work in its repository to be saved.
    ///
    /// # Errors
    ///
    /// As [`Client::delete_sandbox`].
    pub async fn discard_sandbox(&self, sandbox: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, format!("{}?force=true", path(sandbox)))).await
    }

    /// Freezes a sandbox's processes; their memory is kept.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn pause_sandbox(&self, sandbox: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::post(format!("{}/pause", path(sandbox)))).await
    }

    /// Lets a paused sandbox go on.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn resume_sandbox(&self, sandbox: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::post(format!("{}/resume", path(sandbox)))).await
    }

    /// Ends a sandbox's processes and keeps its files.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn stop_sandbox(&self, sandbox: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::post(format!("{}/stop", path(sandbox)))).await
    }

    /// Makes a stopped sandbox run again, on its files.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn start_sandbox(&self, sandbox: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::post(format!("{}/start", path(sandbox)))).await
    }

    /// Gives a sandbox another lifetime from now on, in seconds; 0 for no limit.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn extend_sandbox(
        &self,
        sandbox: &str,
        lifetime_seconds: u64,
    ) -> Result<Sandbox, ClientError> {
        let call = Call::post(format!("{}/extend", path(sandbox)));
        self.json(call.with_json(&ExtendSandbox { lifetime_seconds })?).await
    }

    /// What a sandbox uses now.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn sandbox_metrics(&self, sandbox: &str) -> Result<Metrics, ClientError> {
        self.json(Call::get(format!("{}/metrics", path(sandbox)))).await
    }

    /// The TCP ports on which something in a sandbox listens.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_ports(&self, sandbox: &str) -> Result<PortList, ClientError> {
        self.json(Call::get(format!("{}/ports", path(sandbox)))).await
    }

    /// Opens a stream to a TCP port on a sandbox's own loopback.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `unavailable` where nothing listens.
    pub async fn connect_port(&self, sandbox: &str, port: u16) -> Result<PortStream, ClientError> {
        self.upgraded(format!("{}/ports/{port}", path(sandbox))).await
    }

    /// Has a connection become a stream of bytes.
    pub(super) async fn upgraded(&self, target: String) -> Result<PortStream, ClientError> {
        let mut call = Call::get(target);
        let upgrade = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, TCP)];
        call.headers.extend(upgrade.map(|(name, value)| (name, HeaderValue::from_static(value))));
        let (stream, link) = self.send(&call).await?.upgrade().await?;
        Ok(PortStream { stream: TokioIo::new(stream), _link: link })
    }

    /// Removes a sandbox; one that is gone already is as good.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`], without `not_found`.
    pub async fn ensure_deleted(&self, sandbox: &str) -> Result<(), ClientError> {
        match self.delete_sandbox(sandbox).await {
            Err(error) if error.code() == Code::NotFound => Ok(()),
            result => result,
        }
    }
}

/// A stream of bytes to a port in a sandbox.
#[derive(Debug)]
pub struct PortStream {
    stream: TokioIo<Upgraded>,
    _link: Link,
}

impl AsyncRead for PortStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The path of a sandbox.
pub(super) fn path(sandbox: &str) -> String {
    format!("/v1/sandboxes/{}", encoded(sandbox))
}

/// A key that nobody else uses; none where the system has no randomness.
fn random_key() -> Option<String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).ok()?;
    let text = serde_json::to_value(Base64(bytes.to_vec())).ok()?;
    text.as_str().map(ToOwned::to_owned)
}
