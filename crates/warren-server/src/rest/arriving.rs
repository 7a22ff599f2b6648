//! The body of an upload that may be refused before it has come to its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio_util::task::TaskTracker;

/// How long, and for how many bytes, a body is read on that nobody wants.
const LEFT_OVER: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// A body, piece by piece.
///
/// Dropped before its end, it is read on for a while: whoever is still sending would otherwise find
/// the connection closed, and never read why it was refused.
#[derive(Debug)]
pub(crate) struct Arriving {
    body: Option<BodyDataStream>,
    tasks: TaskTracker,
}

impl Arriving {
    pub(crate) fn new(body: Body, tasks: &TaskTracker) -> Self {
        Self { body: Some(body.into_data_stream()), tasks: tasks.clone() }
    }
}

impl Stream for Arriving {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let piece = ready!(body.poll_next_unpin(cx));
        if !matches!(piece, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(piece)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let mut left = LEFT_OVER.1;
        let read_on = async move {
            while let Some(Ok(piece)) = body.next().await {
                match left.checked_sub(piece.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        self.tasks.spawn(tokio::time::timeout(LEFT_OVER.0, read_on));
    }
}
