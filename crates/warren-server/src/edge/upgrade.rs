//! Connections that stop being HTTP: WebSockets, and what else a port agrees to.

use std::time::Duration;

use axum::{body::Body, http::Request};
use hyper::{header::HeaderValue, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use warren_core::sandboxes::Visit;

use super::{link::Link, place::Destination};
use crate::{app::App, metrics::OpenStream, streams::StreamSlot};

/// How much is copied at once in one direction, in bytes.
const COPIED: usize = 32 << 10;

/// How long both sides may take to be handed over once both have agreed.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// A pipe of bytes between a visitor and a port.
pub(super) struct Pipe {
    visit: Visit,
    at: Destination,
    slot: StreamSlot,
}

/// What a request asks to change to, with the connection that it came on.
pub(super) fn asked(request: &mut Request<Body>) -> Option<(OnUpgrade, HeaderValue)> {
    let on = request.extensions_mut().remove::<OnUpgrade>();
    let to = request.headers().get(hyper::header::UPGRADE).cloned();
    on.zip(to)
}

impl Pipe {
    pub(super) fn new(visit: Visit, at: Destination, slot: StreamSlot) -> Self {
        Self { visit, at, slot }
    }

    /// Copies until either side has ended, the port is closed to its visitors, or the server ends.
    pub(super) async fn run(self, app: App, (outside, inside): (OnUpgrade, OnUpgrade), link: Link) {
        let open = OpenStream::new(&app);
        let both = async {
            let ((), outside, inside) = tokio::join!(link.end(), outside, inside);
            outside.ok().zip(inside.ok())
        };
        let handed_over = tokio::time::timeout(HANDED_OVER, both);
        let Ok(Some((outside, inside))) = handed_over.await else { return };
        let (mut outside, mut inside) = (TokioIo::new(outside), TokioIo::new(inside));
        let copied =
            tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut inside, COPIED, COPIED);
        tokio::select! {
            // Whoever breaks the stream knows; the other side sees its end.
            _ = copied => {}
            () = self.closed_to_visitors() => {}
            () = self.closed_by_name(&app) => {}
            () = app.stopping().cancelled() => {}
        }
        drop((open, self.slot));
    }

    /// Returns when the tokens of before are good for nothing any more, or the port is private that
    /// was public.
    async fn closed_to_visitors(&self) {
        let was = self.visit.sandbox().exposure.clone();
        let port = self.at.port;
        let mut published = self.visit.watch();
        let closed = published.wait_for(|sandbox| {
            let now = &sandbox.exposure;
            now.revision != was.revision || (was.is_public(port) && !now.is_public(port))
        });
        if closed.await.is_err() {
            // Nobody publishes any more: the sandbox has gone, and its side ends by itself.
            std::future::pending().await
        }
    }

    /// Returns when the visitor came by a name that was open, and no name is any more.
    async fn closed_by_name(&self, app: &App) {
        let (sandboxes, at) = (app.sandboxes(), self.at);
        let mut changes = sandboxes.domain_changes();
        let open = || {
            let exposure = &self.visit.sandbox().exposure;
            exposure.is_public(at.port) || sandboxes.is_open_by_domain(at.id, at.port)
        };
        if !at.open || changes.wait_for(|_changed| !open()).await.is_err() {
            std::future::pending().await
        }
    }
}
