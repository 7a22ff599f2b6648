//! How the daemon speaks: HTTP/1.1 and HTTP/2 (with prior knowledge) on two unix sockets.
//!
//! A connection is not trusted more than a request: what a socket offers is decided by the socket,
//! and each request is parsed by itself.

pub(crate) mod arriving;
pub(crate) mod call;
mod control;
mod envd;
pub(crate) mod metrics;
pub(crate) mod reply;
pub(crate) mod rpc;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::daemon::Agent;
use reply::Body;

/// Connections at once on each socket. The host keeps a few; the rest is somebody's mistake.
const CONNECTIONS: usize = 1024;
/// Bytes that the headers of an HTTP/2 request may have.
const HEAD_BYTES: usize = 64 << 10;
/// Bytes read from a connection at once; a request's head must fit.
const READ_BYTES: usize = 256 << 10;
/// Bytes of one HTTP/2 stream, and of all on a connection, that may be under way.
const WINDOWS: (u32, u32) = (512 << 10, 2 << 20);
/// How long a client may take for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Streams at once on one HTTP/2 connection.
const STREAMS: u32 = 256;

/// Which socket a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// Processes and files.
    Envd,
    /// Set-up and ports.
    Control,
}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: UnixListener, face: Face, agent: Arc<Agent>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let dispatch = rpc::service(&agent);
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors, mostly: wait for some to be closed instead of turning in circles.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (agent, dispatch) = (Arc::clone(&agent), dispatch.clone());
        agent.tasks.clone().spawn(async move {
            serve_connection(stream, face, agent, dispatch).await;
            drop(slot);
        });
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    face: Face,
    agent: Arc<Agent>,
    dispatch: rpc::Service,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (agent, dispatch) = (Arc::clone(&agent), dispatch.clone());
        async move { Ok::<_, Infallible>(answer(face, agent, dispatch, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(READ_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_concurrent_streams(STREAMS);
    // Whatever ended the connection, its peer knows; requests have been answered or are gone.
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

/// Reads a body of `/init`, for fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_init(text: &str) {
    if let Ok(value) = serde_json::from_str(text) {
        drop(control::sandbox_of(&value));
    }
}

async fn answer(
    face: Face,
    agent: Arc<Agent>,
    dispatch: rpc::Service,
    request: Request<Incoming>,
) -> Response<Body> {
    match face {
        Face::Envd => envd::answer(agent, dispatch, request).await,
        Face::Control => control::answer(agent, request).await,
    }
}
