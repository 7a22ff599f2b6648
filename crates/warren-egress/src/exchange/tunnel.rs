//! Connections that stop being HTTP: WebSocket and the like.

use std::{io, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split},
    time::{Instant, timeout},
};
use warren_http::upgrade_protocol;

use super::body::held_since;
use crate::mask::{Filter, Masks};

/// How long both sides may take to switch, once they have said that they do.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much is read at once.
const BUFFER: usize = 32 * 1024;

/// One side of an upgrade, and the protocol that it is about.
pub(super) type Side = (OnUpgrade, HeaderValue);

/// The client's side of an upgrade, where it asks for one.
pub(super) fn wanted<B>(request: &mut Request<B>) -> Option<Side> {
    if request.version() == Version::HTTP_2 {
        return None;
    }
    let protocol = upgrade_protocol(request.headers())?;
    Some((hyper::upgrade::on(request), protocol))
}

/// The other side of an upgrade, where it agrees to one.
pub(super) fn switched<B>(response: &mut Response<B>) -> Option<Side> {
    let protocol = upgrade_protocol(response.headers())?;
    Some((hyper::upgrade::on(response), protocol))
}

/// Passes bytes on between both sides until they are done, and hides secrets in what comes back:
/// frames of WebSocket stay as long as they are.
pub(super) async fn run(inside: OnUpgrade, outside: OnUpgrade, masks: Option<Arc<Masks>>) {
    let both = async { tokio::try_join!(inside, outside) };
    // One that does not switch after all has ended.
    let Ok(Ok((inside, outside))) = timeout(PATIENCE, both).await else { return };
    let (mut from_inside, mut to_inside) = split(TokioIo::new(inside));
    let (mut from_outside, mut to_outside) = split(TokioIo::new(outside));
    let there = async {
        copy(&mut from_inside, &mut to_outside).await?;
        to_outside.shutdown().await
    };
    let back = async {
        match masks.filter(|it| !it.is_empty()) {
            None => drop(copy(&mut from_outside, &mut to_inside).await?),
            Some(masks) => masked(&mut from_outside, &mut to_inside, masks).await?,
        }
        to_inside.shutdown().await
    };
    // How it ends concerns the two sides alone.
    let _ended = tokio::try_join!(there, back);
}

async fn masked(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    masks: Arc<Masks>,
) -> io::Result<()> {
    let mut filter = Filter::new(masks);
    let mut buffer = vec![0; BUFFER];
    let mut since = None;
    loop {
        let certain = tokio::select! {
            read = from.read(&mut buffer) => match read? {
                0 => break,
                read => filter.push(buffer.get(..read).unwrap_or_default()),
            },
            () = held_since(since) => filter.flush(),
        };
        since = (filter.held() > 0).then(Instant::now);
        to.write_all(&certain).await?;
        to.flush().await?;
    }
    to.write_all(&filter.flush()).await
}
