//! One process: who it is, what it wrote, how it ended.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hyper::body::Bytes;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use warren_proto::process::process_event::EndEvent;
use warren_proto::process::{ProcessConfig, ProcessInfo};
use warren_proto::{Code, Status};
use warren_sys::reap::Ended;

use super::event::{Event, end_of};
use super::input::Input;
use super::spool::{Chunk, Source, Spool};
use crate::daemon::state::{lock, now};

/// Events that wait for a subscriber before the process is held back. With the largest chunks:
/// 256 KiB.
const QUEUE: usize = 8;

/// What is known of a process at its start.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) tag: Option<String>,
    pub(crate) exec_id: Option<String>,
    /// The value of the environment variable by which its descendants are found.
    pub(crate) marker: String,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<Arc<AsyncFd<File>>>,
    pub(crate) input: Input,
    pub(crate) spools: bool,
}

/// A process that was started for a caller.
#[derive(Debug)]
pub(crate) struct Process {
    origin: Origin,
    started: SystemTime,
    exit: watch::Sender<Option<Ended>>,
    state: Mutex<State>,
    /// Set once nobody shall wait for output that a descendant may still write.
    cut: watch::Sender<bool>,
    /// Set with the end.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// What was asked for: up to megabytes, so it goes with the end unless it can still be listed.
    config: ProcessConfig,
    written_bytes: u64,
    spool: Option<Spool>,
    subscribers: Vec<mpsc::Sender<Event>>,
    end: Option<EndEvent>,
    timed_out: bool,
}

/// A subscriber's part: what is replayed, and what comes.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) replay: VecDeque<Event>,
    pub(crate) live: mpsc::Receiver<Event>,
}

impl Process {
    pub(crate) fn new(origin: Origin, config: ProcessConfig) -> Self {
        let spool = origin.spools.then(Spool::default);
        let state = State { config, spool, ..State::default() };
        Self {
            origin,
            started: now(),
            exit: watch::Sender::new(None),
            state: Mutex::new(state),
            cut: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.origin.pid
    }

    /// The pid as the protocol has it; pids are never negative.
    pub(crate) fn wire_pid(&self) -> u32 {
        self.origin.pid.unsigned_abs()
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.origin.tag.as_deref()
    }

    pub(crate) fn exec_id(&self) -> Option<&str> {
        self.origin.exec_id.as_deref()
    }

    pub(crate) fn marker(&self) -> &str {
        &self.origin.marker
    }

    pub(crate) fn input(&self) -> &Input {
        &self.origin.input
    }

    pub(crate) fn terminal(&self) -> Option<&Arc<AsyncFd<File>>> {
        self.origin.terminal.as_ref()
    }

    pub(crate) fn spools(&self) -> bool {
        self.origin.spools
    }

    pub(crate) fn info(&self) -> ProcessInfo {
        let (config, end) = {
            let state = lock(&self.state);
            (state.config.clone(), state.end.clone())
        };
        ProcessInfo {
            config: config.into(),
            pid: self.wire_pid(),
            tag: self.origin.tag.clone(),
            exec_id: self.origin.exec_id.clone(),
            started_unix_ms: self
                .started
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
            end: end.into(),
        }
    }

    /// Says that the reaper has it.
    pub(crate) fn exited(&self, exit: Ended) {
        self.exit.send_replace(Some(exit));
    }

    pub(crate) fn exit(&self) -> Option<Ended> {
        *self.exit.borrow()
    }

    /// Waits until the reaper has it.
    pub(crate) async fn wait(&self) -> Ended {
        let mut exit = self.exit.subscribe();
        loop {
            let seen = *exit.borrow_and_update();
            if let Some(exit) = seen {
                return exit;
            }
            if exit.changed().await.is_err() {
                std::future::pending::<()>().await; // not reached: the sender is in `self`
            }
        }
    }

    pub(crate) fn set_timed_out(&self) {
        lock(&self.state).timed_out = true;
    }

    /// Bytes kept, of output and of what was asked for.
    pub(crate) fn held_bytes(&self) -> usize {
        let state = lock(&self.state);
        let output = state.spool.as_ref().map_or(0, Spool::held_bytes);
        let args = state.config.args.iter().map(String::len);
        let envs = state.config.envs.iter().map(|(name, value)| name.len() + value.len());
        output + state.config.cmd.len() + args.sum::<usize>() + envs.sum::<usize>()
    }

    /// Sends `signal` to this one process.
    ///
    /// # Errors
    ///
    /// `not_found` when it is gone; `invalid_argument` for a number that is no signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Status> {
        let gone = || Status::new(Code::NotFound, format!("process {} has ended", self.pid()));
        if self.exit().is_some() {
            return Err(gone());
        }
        match pidfd_send_signal(&self.origin.pidfd, signal) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(gone()),
            Err(error) => Err(Status::new(Code::InvalidArgument, format!("send signal: {error}"))),
        }
    }

    /// From now on the end does not wait for output that descendants hold open.
    pub(crate) fn cut_output(&self) {
        self.cut.send_replace(true);
    }

    /// Waits until [`Self::cut_output`] was called and the process has ended.
    pub(crate) async fn wait_cut(&self) {
        is_set(&self.cut).await;
        self.wait().await;
    }

    /// Waits until the process has ended, and its output too.
    pub(crate) async fn wait_end(&self) {
        is_set(&self.ended).await;
    }

    /// Subscribes; with `offset`, what is kept from there on comes first.
    pub(crate) fn subscribe(&self, offset: Option<u64>) -> Subscription {
        let mut state = lock(&self.state);
        let kept = offset.and_then(|offset| Some(state.spool.as_ref()?.since(offset)));
        let mut replay: VecDeque<Event> =
            kept.unwrap_or_default().into_iter().map(Event::Output).collect();
        let (sender, live) = mpsc::channel(QUEUE);
        match &state.end {
            Some(end) => replay.push_back(Event::End(end.clone())),
            None => state.subscribers.push(sender),
        }
        Subscription { replay, live }
    }

    /// Hands output to the spool and to everybody who reads, and waits for them.
    pub(crate) async fn publish(&self, source: Source, bytes: Bytes) {
        let (chunk, subscribers) = {
            let mut state = lock(&self.state);
            let chunk = Chunk { source, offset: state.written_bytes, bytes };
            state.written_bytes += chunk.bytes.len() as u64;
            if let Some(spool) = &mut state.spool {
                spool.push(&chunk);
            }
            // Whoever subscribes from here on has this chunk from the spool, or not at all.
            state.subscribers.retain(|it| !it.is_closed());
            (chunk, state.subscribers.clone())
        };
        for subscriber in subscribers {
            // A subscriber that left meanwhile is dropped at the next chunk.
            drop(subscriber.send(Event::Output(chunk.clone())).await);
        }
    }

    /// All output is out: tells everybody how it ended.
    pub(crate) async fn publish_end(&self, exit: Ended) {
        let (end, subscribers) = {
            let mut state = lock(&self.state);
            let end = end_of(exit, state.timed_out);
            state.end = Some(end.clone());
            if !self.origin.spools {
                state.config = ProcessConfig::default();
            }
            (end, std::mem::take(&mut state.subscribers))
        };
        self.ended.send_replace(true);
        for subscriber in subscribers {
            drop(subscriber.send(Event::End(end.clone())).await);
        }
    }
}

/// Waits for a flag. Its sender lives as long as the borrow, so the wait cannot fail.
async fn is_set(flag: &watch::Sender<bool>) {
    if flag.subscribe().wait_for(|it| *it).await.is_err() {
        std::future::pending::<()>().await;
    }
}
