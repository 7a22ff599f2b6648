//! How many requests to the ports of one sandbox are under way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use warren_core::id::SandboxId;

use crate::streams::{StreamOf, StreamSlot, Streams};

/// The requests that are under way.
#[derive(Clone, Debug)]
pub(super) struct Slots(Streams);

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self(Streams::new(most))
    }

    /// Counts one more request to this sandbox; none where there are too many.
    pub(super) fn open(&self, id: SandboxId) -> Option<StreamSlot> {
        self.0.open(StreamOf::Sandbox(id)).ok()
    }
}

impl StreamSlot {
    /// A body that counts until it is sent.
    pub(super) fn holding(self, body: Body) -> Body {
        Body::new(Held { body, _slot: self })
    }
}

struct Held {
    body: Body,
    _slot: StreamSlot,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
