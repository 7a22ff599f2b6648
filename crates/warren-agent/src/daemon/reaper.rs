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

/// Bytes of `struct signalfd_siginfo`.
const SIGNAL_RECORD_BYTES: usize = 128;

/// Reaps until a SIGTERM or SIGINT arrives; as `init`, until one arrives from outside of the pid
/// namespace. Root inside shall not end its sandbox by mistake.
pub(super) async fn run(agent: &Arc<Agent>, signals: OwnedFd, init: bool) -> io::Result<()> {
    let signals = super::watch(signals)?;
    loop {
        tokio::select! {
            ready = signals.readable() => {
                let mut ready = ready?;
                match take_signals(&signals, init) {
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

fn take_signals(signals: &AsyncFd<File>, init: bool) -> Signals {
    let mut record = [0; SIGNAL_RECORD_BYTES];
    let mut seen = Signals::None;
    while let Ok(SIGNAL_RECORD_BYTES) = rustix::io::read(signals.get_ref(), &mut record) {
        // The number, an error, a code, and the sender's pid: 0 where it has none here.
        let [number, _error, _code, sender] = first_words(&record);
        if i32::try_from(number) == Ok(rustix::process::Signal::CHILD.as_raw()) {
            seen = Signals::Children;
        } else if !init || sender == 0 {
            return Signals::End;
        }
    }
    seen
}

fn first_words(record: &[u8; SIGNAL_RECORD_BYTES]) -> [u32; 4] {
    let (words, _) = record.as_chunks::<4>();
    std::array::from_fn(|index| words.get(index).copied().map_or(0, u32::from_ne_bytes))
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
