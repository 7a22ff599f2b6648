//! Connections that stop being HTTP: WebSockets, and what else a port agrees to.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::Request};
use hyper::{header::HeaderValue, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use warren_core::{sandbox::Sandbox, sandboxes::Visit};

use super::{link::Link, place::Destination, slots::Slot, token::Grant};
use crate::{app::App, metrics::OpenStream};

/// How much is copied at once in one direction, in bytes.
const COPIED: usize = 32 << 10;

/// How long both sides may take to be handed over once both have agreed.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// How long is slept at most towards the end of a token: the clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// A pipe of bytes between a visitor and a port.
pub(super) struct Pipe {
    visit: Visit,
    at: Destination,
    admitted: Admitted,
    slot: Slot,
}

/// Why a visitor was let in.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// The sandbox as it was then.
    pub(super) sandbox: Arc<Sandbox>,
    /// The token that was shown; none for a public port without one.
    pub(super) grant: Option<Grant>,
}

/// What a request asks to change to, with the connection that it came on.
pub(super) fn asked(request: &mut Request<Body>) -> Option<(OnUpgrade, HeaderValue)> {
    let on = request.extensions_mut().remove::<OnUpgrade>();
    let to = request.headers().get(hyper::header::UPGRADE).cloned();
    on.zip(to)
}

impl Pipe {
    pub(super) fn new(visit: Visit, (at, admitted): (Destination, Admitted), slot: Slot) -> Self {
        Self { visit, at, admitted, slot }
    }

    /// Copies until either side has ended, the visitor would not be let in any more, the sandbox
    /// has no guest, or the server ends.
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
            () = self.expired(&app) => {}
            () = app.stopping().cancelled() => {}
        }
        drop((open, self.slot));
    }

    /// Returns when what let the visitor in does so no more: its token was revoked, the port was
    /// public and is not, or there is nothing behind the port. It looks at everything that has
    /// changed since, so nothing that came before the pipe is missed.
    async fn closed_to_visitors(&self) {
        let (was, port) = (&self.admitted.sandbox.exposure, self.at.port);
        let mut published = self.visit.watch();
        let closed = published.wait_for(|sandbox| {
            let now = &sandbox.exposure;
            let locked_out = match self.admitted.grant {
                Some(_) => now.revision != was.revision,
                None => was.is_public(port) && !now.is_public(port),
            };
            locked_out || !sandbox.state.has_guest()
        });
        // Where nobody publishes any more the sandbox has gone.
        drop(closed.await);
    }

    /// Returns when the visitor's token is good no more; never where it has no end.
    async fn expired(&self, app: &App) {
        let Some(end) = self.admitted.grant.and_then(|grant| grant.expires) else {
            return std::future::pending().await;
        };
        let left = || end.saturating_mul(1000).saturating_sub(app.sandboxes().now().as_millis());
        while left() > 0 {
            tokio::time::sleep(Duration::from_millis(left()).min(LOOK)).await;
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
        let by_token = self.admitted.grant.is_some();
        if !at.open || by_token || changes.wait_for(|_changed| !open()).await.is_err() {
            std::future::pending().await
        }
    }
}
