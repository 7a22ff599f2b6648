//! The processes of a fake guest: made-up commands, some of them hostile.
//!
//! | command | what it does |
//! |---|---|
//! | `echo TEXT...` | writes the texts and a line end |
//! | `fail CODE` | writes `failed` to standard error and ends with that status |
//! | `cat` | writes what it reads, until that ends |
//! | `sleep` | does nothing until a signal ends it |
//! | `flood BYTES` | writes that many bytes |
//! | `hang-up` | the agent leaves in the middle of its output |
//! | `garbage` | the agent sends what is no envelope |
//! | `huge` | the agent announces a message of 4 GiB |
//! | `no-end` | the stream ends without having said so |
//! | anything else | is not found |

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame, header};
use warren_proto::{
    Code, Codec, Status, WireMessage, envelope,
    process::{
        ProcessConfig, ProcessEvent, StartResponse,
        process_event::{DataEvent, EndEvent, Event, data_event::Output},
    },
};

use super::agent::Answer;

pub(super) type Events = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) exec_id: String,
    pub(super) config: ProcessConfig,
    pub(super) output: Vec<u8>,
    pub(super) subscribers: Vec<Events>,
    pub(super) end: Option<EndEvent>,
}

impl Process {
    pub(super) fn new(exec_id: String, config: ProcessConfig) -> Self {
        Self { exec_id, config, output: Vec::new(), subscribers: Vec::new(), end: None }
    }

    /// Does what the command does at once.
    pub(super) fn begin(&mut self, arguments: &[String]) -> Result<(), Status> {
        let first = arguments.first().map(String::as_str).unwrap_or_default();
        match self.config.cmd.as_str() {
            "echo" => {
                self.write(format!("{}\n", arguments.join(" ")).as_bytes(), false);
                self.finish(0, 0);
            }
            "fail" => {
                self.write(b"failed\n", true);
                self.finish(first.parse().unwrap_or(1), 0);
            }
            "flood" => {
                let mut left: usize = first.parse().unwrap_or_default();
                while left > 0 {
                    let piece = left.min(32 << 10);
                    self.write(&vec![b'x'; piece], false);
                    left -= piece;
                }
                self.finish(0, 0);
            }
            "hang-up" => self.write(b"so far", false),
            "garbage" => self.lie(&[0xff; 100]),
            "huge" => self.lie(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]),
            "no-end" => self.subscribers.clear(),
            "cat" | "sleep" => {}
            other => return Err(Status::new(Code::NotFound, format!("no program named {other}"))),
        }
        Ok(())
    }

    /// Sends bytes that are not in the protocol.
    fn lie(&mut self, bytes: &[u8]) {
        for events in self.subscribers.drain(..) {
            events.unbounded_send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).ok();
        }
    }

    /// What it reads, `cat` writes.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.config.cmd == "cat" {
            self.write(bytes, false);
        }
    }

    fn write(&mut self, bytes: &[u8], error: bool) {
        let offset = self.output.len() as u64;
        self.output.extend_from_slice(bytes);
        let bytes = Bytes::copy_from_slice(bytes);
        let output = if error { Output::Stderr(bytes) } else { Output::Stdout(bytes) };
        for events in &self.subscribers {
            send(events, Event::Data(DataEvent { output: Some(output.clone()), offset }));
        }
    }

    pub(super) fn finish(&mut self, exit_code: i32, signal: u32) {
        let end = EndEvent { exit_code, exited: signal == 0, signal, ..EndEvent::default() };
        for events in self.subscribers.drain(..) {
            send(&events, Event::End(end.clone()));
            close(&events, None);
        }
        self.end = Some(end);
    }
}

pub(super) fn send(events: &Events, event: Event) {
    let event = ProcessEvent { event: Some(event) };
    send_message(events, &StartResponse { event: event.into() });
}

pub(super) fn send_message(events: &Events, message: &impl WireMessage) {
    if let Ok(bytes) = envelope::encode_message(Codec::Proto, message) {
        // A reader that left misses it.
        events.unbounded_send(Ok(Frame::data(bytes))).ok();
    }
}

pub(super) fn close(events: &Events, status: Option<&Status>) {
    events.unbounded_send(Ok(Frame::data(envelope::encode_end(status)))).ok();
    events.close_channel();
}

pub(super) fn stream() -> (Events, Answer) {
    let (events, frames) = mpsc::unbounded();
    let body = StreamBody::new(frames.boxed()).boxed_unsync();
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, Codec::Proto.stream_content_type())
        .body(body)
        .unwrap_or_default();
    (events, answer)
}

/// A stream that ends at once with an error.
pub(super) fn ended(status: &Status) -> Answer {
    let (events, answer) = stream();
    close(&events, Some(status));
    answer
}
