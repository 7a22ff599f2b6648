//! Watches in use: by streams, and by callers that poll.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use warren_proto::filesystem::watch_dir_response::{Event, KeepAlive, StartEvent};
use warren_proto::filesystem::{FilesystemEvent, WatchDirResponse};
use warren_proto::{Code, Status};

use super::context::{Context, on_thread};
use super::watch::{Options, Watch};
use crate::daemon::countdown::Countdown;
use crate::daemon::state::{lock, random_id};
use crate::daemon::{Agent, watch};

/// Watches at once: the kernel allows a user 128.
const MOST: usize = 64;
/// Events that wait for a caller that polls; the oldest go first.
const QUEUE: usize = 8192;
/// Events that wait for a stream's reader.
const STREAM_QUEUE: usize = 64;

/// All watches of this sandbox.
#[derive(Debug)]
pub(crate) struct Watchers {
    polled: Mutex<HashMap<String, Arc<Polled>>>,
    slots: Arc<Semaphore>,
}

/// A watch that can be read.
#[derive(Debug)]
pub(super) struct Open {
    watch: Arc<Mutex<Watch>>,
    context: Context,
    ready: AsyncFd<File>,
    _slot: OwnedSemaphorePermit,
}

/// A watch whose events wait to be asked for.
#[derive(Debug)]
struct Polled {
    watch: Arc<Mutex<Watch>>,
    context: Context,
    /// Held while events are taken, so that they come in in order.
    queue: tokio::sync::Mutex<VecDeque<FilesystemEvent>>,
    /// Tells the collector, by being dropped, that the watcher was removed.
    _kept: oneshot::Sender<()>,
}

impl Watchers {
    pub(crate) fn new() -> Self {
        Self { polled: Mutex::default(), slots: Arc::new(Semaphore::new(MOST)) }
    }
}

/// Opens a watch on a path as a caller writes it.
///
/// # Errors
///
/// As [`Watch::new`]; `resource_exhausted` when there are too many.
pub(super) async fn open(
    agent: &Arc<Agent>,
    user: Option<String>,
    path: String,
    options: Options,
) -> Result<Open, Status> {
    let slot = Arc::clone(&agent.watchers.slots).try_acquire_owned().map_err(|_full| {
        Status::new(Code::ResourceExhausted, format!("{MOST} watches are in use"))
    })?;
    let work = move |context: &Context| {
        let opened = Watch::new(&context.path(&path)?, options)?;
        let descriptor = opened.descriptor()?;
        Ok((opened, descriptor, context.clone()))
    };
    let (opened, descriptor, context) = on_thread(agent, user, work).await?;
    let ready = watch(descriptor).map_err(super::context::failed("watch", ""))?;
    Ok(Open { watch: Arc::new(Mutex::new(opened)), context, ready, _slot: slot })
}

/// Takes what a watch has seen, on a thread with the user's rights.
async fn take(
    agent: &Arc<Agent>,
    watch: &Arc<Mutex<Watch>>,
    context: &Context,
) -> Result<Vec<FilesystemEvent>, Status> {
    let (watch, context) = (Arc::clone(watch), context.clone());
    let work = move || context.act(|| Ok(lock(&watch).take(&context)));
    agent.pool.with_files(work).await
}

/// Keeps a watch until it is removed, and gives its name.
///
/// # Errors
///
/// When there is no randomness for a name.
pub(super) fn keep(agent: &Arc<Agent>, open: Open) -> Result<String, Status> {
    let id = random_id("w").map_err(super::context::failed("name a watcher of", ""))?;
    let Open { watch, context, ready, _slot } = open;
    let (kept, mut removed) = oneshot::channel();
    let queue = tokio::sync::Mutex::default();
    let polled = Arc::new(Polled { watch, context, queue, _kept: kept });
    lock(&agent.watchers.polled).insert(id.clone(), Arc::clone(&polled));
    let weak = Arc::downgrade(&polled);
    let collector = Arc::clone(agent);
    agent.tasks.spawn(async move {
        // Read as it happens: a recursive watch must add new directories in time.
        loop {
            tokio::select! {
                readable = ready.readable() => match readable {
                    Ok(mut readable) => readable.clear_ready(),
                    Err(_) => break,
                },
                _ = &mut removed => break,
            }
            let Some(polled) = weak.upgrade() else { break };
            if polled.collect(&collector, &mut *polled.queue.lock().await).await.is_err() {
                break;
            }
        }
        drop(_slot);
    });
    Ok(id)
}

impl Polled {
    async fn collect(
        &self,
        agent: &Arc<Agent>,
        queue: &mut VecDeque<FilesystemEvent>,
    ) -> Result<(), Status> {
        loop {
            let events = take(agent, &self.watch, &self.context).await?;
            if events.is_empty() {
                return Ok(());
            }
            queue.extend(events);
            let over = queue.len().saturating_sub(QUEUE);
            queue.drain(..over);
        }
    }
}

/// Everything that a kept watch has seen since the last call.
///
/// # Errors
///
/// `not_found` for a name that nobody has.
pub(super) async fn drain(agent: &Arc<Agent>, id: &str) -> Result<Vec<FilesystemEvent>, Status> {
    let polled = lock(&agent.watchers.polled).get(id).cloned().ok_or_else(|| missing(id))?;
    let mut queue = polled.queue.lock().await;
    polled.collect(agent, &mut queue).await?;
    Ok(std::mem::take(&mut *queue).into())
}

/// Ends a kept watch.
///
/// # Errors
///
/// `not_found` for a name that nobody has.
pub(super) fn remove(agent: &Agent, id: &str) -> Result<(), Status> {
    lock(&agent.watchers.polled).remove(id).map(drop).ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Status {
    Status::new(Code::NotFound, format!("no watcher '{id}'"))
}

/// A watch's stream: `start`, events, `keepalive` in silence; an error when the time is over.
#[derive(Debug)]
pub(crate) struct WatchStream(mpsc::Receiver<Result<WatchDirResponse, Status>>);

impl Stream for WatchStream {
    type Item = Result<WatchDirResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Streams a watch until its reader goes, or for `timeout`.
pub(super) fn stream(
    agent: &Arc<Agent>,
    open: Open,
    silence: Duration,
    timeout: Option<Duration>,
) -> WatchStream {
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    let reader = Arc::clone(agent);
    agent.tasks.spawn(async move {
        let deadline = async {
            match timeout {
                Some(timeout) => Countdown::new(timeout).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            result = feed(&reader, &open, silence, &sender) => result,
            () = deadline => {
                Err(Status::new(Code::DeadlineExceeded, "the time of the call is over"))
            }
        };
        if let Err(status) = end {
            let _gone = sender.send(Err(status)).await;
        }
    });
    WatchStream(receiver)
}

async fn feed(
    agent: &Arc<Agent>,
    open: &Open,
    silence: Duration,
    sender: &mpsc::Sender<Result<WatchDirResponse, Status>>,
) -> Result<(), Status> {
    let send = async |event: Event| sender.send(Ok(WatchDirResponse { event: Some(event) })).await;
    let mut reader_is_there = send(Event::Start(StartEvent {})).await.is_ok();
    while reader_is_there {
        tokio::select! {
            ready = open.ready.readable() => {
                ready.map_err(super::context::failed("watch", ""))?.clear_ready();
            }
            () = tokio::time::sleep(silence) => {
                reader_is_there = send(Event::Keepalive(KeepAlive {})).await.is_ok();
                continue;
            }
            () = sender.closed() => return Ok(()),
        }
        loop {
            let events = take(agent, &open.watch, &open.context).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                reader_is_there &= send(Event::Filesystem(event)).await.is_ok();
            }
        }
    }
    Ok(())
}
