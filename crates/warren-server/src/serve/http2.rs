//! HTTP/2 for strangers: what one connection may make us hold, and for how long it may idle.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{rt::Executor, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use super::DRAIN;
use crate::{
    app::App,
    config::{BUFFER_BYTES, HEAD_BYTES},
    face::Face,
};

/// How many requests of one connection are under way at once.
const STREAMS: u32 = 100;

/// How much of all requests of one connection may be in memory before somebody reads it, in bytes.
const CONNECTION_BYTES: u32 = 1 << 20;

/// How much of one answer may be in memory before the client takes it, in bytes.
const SEND_BYTES: usize = 32 << 10;

/// How long a client may take to show that it is there.
const PING: Duration = Duration::from_secs(20);

/// Starts the tasks of a connection so that they are waited for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Serves one connection to its end. One that has no request under way for as long as a client may
/// take for a head is asked to end.
pub(super) async fn converse<S>(app: &App, stream: S, face: Face)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let patience = app.config().head_timeout;
    let mut builder = http2::Builder::new(Tracked(app.tasks().clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(u32::try_from(BUFFER_BYTES).ok())
        .initial_connection_window_size(CONNECTION_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BYTES)
        .keep_alive_interval(patience)
        .keep_alive_timeout(PING);
    let open = face.open();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), face));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = idle(&open, patience) => close(app, connection).await,
        () = app.stopping().cancelled() => close(app, connection).await,
    };
    if let Err(error) = ended {
        // A client that leaves in the middle is its own business.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Tells the client that nothing more is taken, and waits for what is under way.
async fn close<S>(
    app: &App,
    mut connection: std::pin::Pin<&mut http2::Connection<TokioIo<S>, Face, Tracked>>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    connection.as_mut().graceful_shutdown();
    let stopped = async {
        app.stopping().cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = connection => ended,
        () = stopped => Ok(()),
    }
}

/// Returns when no request was under way for that long.
async fn idle(open: &Arc<AtomicUsize>, patience: Duration) {
    let look = (patience / 8).clamp(Duration::from_millis(10), Duration::from_secs(5));
    let mut since = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(look).await;
        if open.load(Ordering::Acquire) > 0 {
            since = tokio::time::Instant::now();
        } else if since.elapsed() >= patience {
            return;
        }
    }
}
