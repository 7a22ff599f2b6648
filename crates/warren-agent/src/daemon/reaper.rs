//! The one place that waits for children, and the end of the daemon.
//!
//! Two kinds of children end here: those that were started for a caller, whose status belongs to
//! their record, and orphans, which an init process inherits and nobody asks for. A child is looked
//! at before it is reaped: one that is not known may be one that is just being started, and is left
//! until its record exists.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use warren_sys::reap::{look_at_ended_child, reap_child};

use super::Agent;

/// `struct signalfd_siginfo` begins with the signal's number.
const SIGNAL_RECORD_BYTES: usize = 128;

/// Reaps until a SIGTERM or SIGINT arrives.
pub(super) async fn run(agent: &Arc<Agent>, signals: OwnedFd) -> io::Result<()> {
    let signals = super::watch(signals)?;
    loop {
        tokio::select! {
            ready = signals.readable() => {
                let mut ready = ready?;
                match take_signals(&signals) {
                    Signals::None => ready.clear_ready(),
                    Signals::Children => {}
                    Signals::End => return Ok(()),
                }
            }
            () = agent.processes.started() => {}
        }
        reap(agent);
    }
}

enum Signals {
    None,
    Children,
    End,
}

fn take_signals(signals: &AsyncFd<File>) -> Signals {
    let mut record = [0; SIGNAL_RECORD_BYTES];
    let mut seen = Signals::None;
    while let Ok(SIGNAL_RECORD_BYTES) = rustix::io::read(signals.get_ref(), &mut record) {
        let number = record.first_chunk().map_or(0, |it| u32::from_ne_bytes(*it));
        if i32::try_from(number) == Ok(rustix::process::Signal::CHILD.as_raw()) {
            seen = Signals::Children;
        } else {
            return Signals::End;
        }
    }
    seen
}

fn reap(agent: &Agent) {
    while let Ok(Some((pid, ended))) = look_at_ended_child() {
        let process = agent.processes.unreaped(pid);
        if process.is_none() && agent.processes.is_starting() {
            return; // asked again when that start is done
        }
        if reap_child(pid).is_err() {
            return; // not reached: it was there a moment ago, and nobody else reaps
        }
        if let Some(process) = process {
            process.exited(ended);
        }
    }
}
