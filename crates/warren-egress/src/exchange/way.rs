//! The way to the other side that the requests of a client's connection take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;

use super::{
    Body, Outside,
    activity::Activity,
    sender::{Sender, Unsent},
    tasks::Tasks,
};
use crate::{
    io::{Counted, Stream},
    outside::OutsideError,
};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the other side was not reached")]
    Outside(#[from] OutsideError),
    #[error("the other side does not speak this version of HTTP")]
    Handshake(#[source] hyper::Error),
    #[error("the other side broke the connection")]
    Broke(#[source] hyper::Error),
    #[error("the other side closed the connection")]
    Closed,
}

impl SendError {
    /// The error with what caused it: all of it is about what the sandbox asked for.
    pub(super) fn told(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}

/// At most one connection to the other side at a time.
#[derive(Debug, Default)]
pub(super) struct Way {
    slot: Mutex<Slot>,
    /// Whose turn it is to connect.
    turn: tokio::sync::Mutex<()>,
    /// What drives connections.
    drivers: Tasks,
}

#[derive(Debug, Default)]
struct Slot {
    /// The connection that is there. One of HTTP/1 is away while a request is on it.
    sender: Option<Sender>,
    /// How many there were.
    number: usize,
}

impl Way {
    /// Takes a connection that is there already.
    pub(super) async fn begin(
        &self,
        stream: Box<dyn Stream>,
        h2: bool,
        activity: &Arc<Activity>,
    ) -> Result<(), SendError> {
        let sender = self.open(stream, h2, activity).await?;
        self.lock().sender = Some(sender);
        Ok(())
    }

    /// Sends a request on the connection that is there, or on a new one.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
        outside: &Outside,
        activity: &Arc<Activity>,
    ) -> Result<Response<Incoming>, SendError> {
        let (kept, number) = self.kept();
        let request = match kept {
            None => request,
            Some(mut sender) => {
                let again = repeatable(&request);
                match sender.send(request).await {
                    Ok(response) => return Ok(self.keep(sender, number, response)),
                    // The other side had closed it meanwhile, as servers do.
                    Err(Unsent::Untouched(request)) => *request,
                    // Or it did so while the request was on its way.
                    Err(Unsent::Failed(source)) => again.ok_or(SendError::Broke(source))?,
                }
            }
        };
        let (mut sender, number) = self.another(number, outside, activity).await?;
        match sender.send(request).await {
            Ok(response) => Ok(self.keep(sender, number, response)),
            Err(Unsent::Untouched(_)) => Err(SendError::Closed),
            Err(Unsent::Failed(source)) => Err(SendError::Broke(source)),
        }
    }

    /// Ends every connection.
    pub(super) fn end(&self) {
        drop(self.lock().sender.take());
        self.drivers.end();
    }

    /// A connection that is newer than this one. Requests of HTTP/2 that come at once wait for the
    /// one that connects, and are sent on the same.
    async fn another(
        &self,
        than: usize,
        outside: &Outside,
        activity: &Arc<Activity>,
    ) -> Result<(Sender, usize), SendError> {
        let _turn = self.turn.lock().await;
        if let (Some(sender), number) = self.kept()
            && number != than
        {
            return Ok((sender, number));
        }
        let (stream, _settled) = outside.open(outside.versions()).await?;
        let sender = self.open(stream, outside.h2, activity).await?;
        let mut slot = self.lock();
        slot.number += 1;
        // Requests of HTTP/2 do not wait for each other.
        slot.sender = sender.another();
        Ok((sender, slot.number))
    }

    async fn open(
        &self,
        stream: Box<dyn Stream>,
        h2: bool,
        activity: &Arc<Activity>,
    ) -> Result<Sender, SendError> {
        let activity = Arc::clone(activity);
        let counted = Counted::new(stream, move |read, written| activity.moved(read + written));
        let (sender, driver) = Sender::over(counted, h2).await.map_err(SendError::Handshake)?;
        self.drivers.spawn(driver);
        Ok(sender)
    }

    /// The connection that is there, and its number. One of HTTP/1 is free only when its last
    /// request is done.
    fn kept(&self) -> (Option<Sender>, usize) {
        let mut slot = self.lock();
        let another = slot.sender.as_ref().and_then(Sender::another);
        (another.or_else(|| slot.sender.take()), slot.number)
    }

    fn keep(
        &self,
        sender: Sender,
        number: usize,
        response: Response<Incoming>,
    ) -> Response<Incoming> {
        let mut slot = self.lock();
        if slot.number == number {
            slot.sender = Some(sender);
        }
        response
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request once more, where nothing is lost or done twice when it is sent again: its method
/// says so, and there is no body.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::<Bytes>::new().map_err(|no| match no {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}
