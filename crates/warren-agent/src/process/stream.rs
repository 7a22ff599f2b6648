//! A subscriber's stream of events, as the protocol has it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use warren_proto::process::process_event::{Event as WireEvent, KeepAlive, StartEvent};
use warren_proto::process::{ConnectResponse, ProcessEvent, StartResponse};
use warren_proto::{Code, Status};

use super::event::Event;
use super::record::{Process, Subscription};

/// What a stream is made of: the answer of `Start` or of `Connect`.
pub(crate) trait Response: Send + Unpin + 'static {
    fn of(event: ProcessEvent) -> Self;
}

impl Response for StartResponse {
    fn of(event: ProcessEvent) -> Self {
        Self { event: event.into() }
    }
}

impl Response for ConnectResponse {
    fn of(event: ProcessEvent) -> Self {
        Self { event: event.into() }
    }
}

/// `start`, what is replayed, what comes, `end`; `keepalive` in silence.
#[derive(Debug)]
pub(crate) struct EventStream<R> {
    pid: Option<u32>,
    replay: VecDeque<Event>,
    live: mpsc::Receiver<Event>,
    silence: Duration,
    keepalive: Pin<Box<Sleep>>,
    /// Sent to when the caller's time is over; dropped when there is no limit any more.
    deadline: Option<oneshot::Receiver<()>>,
    done: bool,
    response: PhantomData<R>,
}

impl<R> EventStream<R> {
    /// A stream of `subscription` to `process`, with a sign of life after each `silence`.
    pub(crate) fn new(
        process: &Process,
        subscription: Subscription,
        silence: Duration,
        deadline: Option<oneshot::Receiver<()>>,
    ) -> Self {
        let Subscription { replay, live } = subscription;
        let keepalive = Box::pin(tokio::time::sleep(silence));
        let pid = Some(process.wire_pid());
        Self { pid, replay, live, silence, keepalive, deadline, done: false, response: PhantomData }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WireEvent, Status>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Some(pid) = self.pid.take() {
            return Poll::Ready(Some(Ok(WireEvent::Start(StartEvent { pid }))));
        }
        if let Some(deadline) = &mut self.deadline
            && let Poll::Ready(over) = Pin::new(deadline).poll(cx)
        {
            self.deadline = None;
            if over.is_ok() {
                self.done = true;
                let status = Status::new(Code::DeadlineExceeded, "the time of the call is over");
                return Poll::Ready(Some(Err(status)));
            }
        }
        let event = match self.replay.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => self.live.poll_recv(cx),
        };
        match event {
            Poll::Ready(event) => {
                self.done = matches!(event, None | Some(Event::End(_)));
                self.keepalive.as_mut().reset(Instant::now() + self.silence);
                Poll::Ready(event.map(|it| Ok(it.into())))
            }
            Poll::Pending => {
                std::task::ready!(self.keepalive.as_mut().poll(cx));
                self.keepalive.as_mut().reset(Instant::now() + self.silence);
                // Registers the timer's next end, which nobody else will poll before.
                let _pending = self.keepalive.as_mut().poll(cx);
                Poll::Ready(Some(Ok(WireEvent::Keepalive(KeepAlive {}))))
            }
        }
    }
}

impl<R: Response> Stream for EventStream<R> {
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = std::task::ready!(self.poll_event(cx));
        Poll::Ready(event.map(|it| it.map(|event| R::of(ProcessEvent { event: Some(event) }))))
    }
}
