//! What happens to a process, as its subscribers see it.

use warren_proto::process::process_event::data_event::Output;
use warren_proto::process::process_event::{DataEvent, EndEvent, Event as WireEvent};
use warren_sys::reap::Ended;

use super::spool::{Chunk, Source};

/// One event after the start.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Output(Chunk),
    End(EndEvent),
}

impl From<Event> for WireEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Output(Chunk { source, offset, bytes }) => {
                let output = match source {
                    Source::Stdout => Output::Stdout(bytes),
                    Source::Stderr => Output::Stderr(bytes),
                    Source::Terminal => Output::Pty(bytes),
                };
                Self::Data(DataEvent { output: Some(output), offset })
            }
            Event::End(end) => Self::End(end),
        }
    }
}

/// The end, in the words that E2B's clients know: Go's own.
pub(crate) fn end_of(exit: Ended, timed_out: bool) -> EndEvent {
    match exit {
        Ended::Exit(code) => {
            let status = format!("exit status {code}");
            let error = (code != 0).then(|| status.clone());
            EndEvent { exit_code: code, exited: true, status, error, timed_out, signal: 0 }
        }
        Ended::Signal(signal) => {
            let status = format!("signal: {}", signal_name(signal));
            EndEvent {
                exit_code: -1,
                exited: false,
                error: Some(status.clone()),
                status,
                timed_out,
                signal: u32::try_from(signal).unwrap_or_default(),
            }
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        number => return format!("signal {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_as_the_clients_expect() {
        let end = end_of(Ended::Exit(0), false);
        assert_eq!((end.exit_code, end.exited, end.status.as_str()), (0, true, "exit status 0"));
        assert_eq!(end.error, None);
        let end = end_of(Ended::Exit(3), false);
        assert_eq!(end.error.as_deref(), Some("exit status 3"));
        let end = end_of(Ended::Signal(9), true);
        assert_eq!((end.exit_code, end.exited, end.signal), (-1, false, 9));
        assert_eq!(end.error.as_deref(), Some("signal: killed"));
        assert!(end.timed_out);
        assert_eq!(end_of(Ended::Signal(40), false).status, "signal: signal 40");
    }
}
