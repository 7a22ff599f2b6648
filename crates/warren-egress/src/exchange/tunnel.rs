//! Connections that stop being HTTP: WebSocket and the like.

use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, time::timeout};

/// How long both sides may take to switch, once they have said that they do.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client's side of an upgrade, where it asks for one.
pub(super) fn wanted<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(request))
}

/// The other side of an upgrade, where it agrees to one.
pub(super) fn switched<B>(response: &mut Response<B>) -> Option<OnUpgrade> {
    (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(response))
}

/// Passes bytes on between both sides until they are done.
pub(super) async fn run(inside: OnUpgrade, outside: OnUpgrade) {
    let both = async { tokio::try_join!(inside, outside) };
    // One that does not switch after all has ended.
    let Ok(Ok((inside, outside))) = timeout(PATIENCE, both).await else { return };
    let (mut inside, mut outside) = (TokioIo::new(inside), TokioIo::new(outside));
    // How it ends concerns the two sides alone.
    let _ended = copy_bidirectional(&mut inside, &mut outside).await;
}
