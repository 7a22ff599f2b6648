//! Transfers to and from registries: long work that tells, line by line, how far it has come.

use std::convert::Infallible;

use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warren_api::images as api;
use warren_core::{
    Caller, SandboxError,
    images::{Progress, Step},
};

use super::lines::{self, SILENCE, line};
use crate::{app::App, convert::images as convert, error::ApiError};

/// How many steps wait for a client that does not keep up; more are left out.
const WAITING: usize = 256;

pub(super) type Work = BoxFuture<'static, Result<api::TransferDone, SandboxError>>;

/// Does `work` and tells how far it has come. The work ends when nobody reads that any more.
pub(super) fn transfer(
    app: &App,
    caller: &Caller,
    work: impl FnOnce(Progress) -> Work,
) -> Result<Response, ApiError> {
    let slot = app.open_event_stream(caller)?;
    let (sender, steps) = mpsc::channel(WAITING);
    let ending = app.ending(caller);
    let work = work(Progress::to(sender));
    Ok(lines::response(told(Some(work), steps, ending), slot))
}

fn told(
    work: Option<Work>,
    steps: mpsc::Receiver<Step>,
    ending: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold((work, steps, ending), |(work, mut steps, ending)| async move {
        let mut work = work?;
        let end = tokio::select! {
            biased;
            Some(step) = steps.recv() => {
                return Some((Ok(line(&convert::step(step))), (Some(work), steps, ending)));
            }
            () = ending.cancelled() => Err(SandboxError::ShuttingDown),
            end = &mut work => end,
            () = tokio::time::sleep(SILENCE) => {
                let alive = line(&api::ImageStep::Keepalive);
                return Some((Ok(alive), (Some(work), steps, ending)));
            }
        };
        // What was told before the end and not sent yet comes first.
        let mut text = Vec::new();
        while let Ok(step) = steps.try_recv() {
            text.extend_from_slice(&line(&convert::step(step)));
        }
        text.extend_from_slice(&line(&match end {
            Ok(done) => api::ImageStep::Done(done),
            Err(error) => api::ImageStep::Error(ApiError::from(error).into_body()),
        }));
        Some((Ok(text.into()), (None, steps, ending)))
    })
}
