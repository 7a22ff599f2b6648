//! Commands inside a sandbox: three ways of asking, one request.
//!
//! | how | `Accept` or path | answer |
//! |---|---|---|
//! | wait | `application/json` | [`ExecOutcome`], or 202 [`ExecStarted`] with `detach` |
//! | stream | `application/x-ndjson` | one [`ExecEvent`] per line |
//! | converse | `GET .../exec/ws` | WebSocket, see [`ExecInput`] and [`OutputStream`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Base64, Timestamp, error::ErrorBody};

/// `POST /v1/sandboxes/{id}/exec`, and the first message on the WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"command": ["echo", "hello"]})))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The program, found along `PATH` inside, and its arguments. No shell is involved. Empty for
    /// the command that the sandbox's image names.
    pub command: Vec<String>,
    /// Added to the environment of the sandbox.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who it runs as; the sandbox's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it starts; the sandbox's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// After this many milliseconds the whole process tree is killed; no limit where absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether standard input stays open for the WebSocket; else it is empty.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// What it reads from standard input, which is closed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_data: Option<Base64>,
    /// Gives it a terminal of this size; its output is then one stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<TerminalSize>,
    /// Answers as soon as it runs, and lets it outlive the request.
    #[serde(default, skip_serializing_if = "is_false")]
    pub detach: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The size of a terminal in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Columns, at least 1.
    pub cols: u16,
    /// Rows, at least 1.
    pub rows: u16,
}

/// A command that was started and not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecStarted {
    /// Its identity within the sandbox.
    pub exec_id: String,
    /// Its process id as seen inside.
    pub pid: u32,
}

/// A command that was waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecOutcome {
    /// Its identity within the sandbox.
    pub exec_id: String,
    /// Its process id as seen inside.
    pub pid: u32,
    /// How it ended.
    #[serde(flatten)]
    pub end: ExecEnd,
    /// Standard output (with a terminal: all output) as text; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Standard error, likewise; empty with a terminal.
    pub stderr: String,
    /// Standard output byte for byte; only where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<Base64>,
    /// Standard error byte for byte; only where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<Base64>,
    /// Whether output was more than the server keeps for this form of request; stream it instead.
    pub truncated: bool,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecEnd {
    /// Its exit status; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// Whether it was killed because `timeout_ms` was over.
    #[serde(default)]
    pub timed_out: bool,
    /// Present where it, or a part of it, was killed because the sandbox ran out of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<OutOfMemory>,
    /// How long it ran, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

/// The limit that was gone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutOfMemory {
    /// The sandbox's memory limit in bytes.
    pub limit_bytes: u64,
}

/// One line of a streamed command, or one text message of the WebSocket.
///
/// `Start` is the first, `End` or `Error` the last. On the WebSocket output is binary
/// ([`OutputStream`]) instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecEvent {
    /// It runs.
    Start(ExecStarted),
    /// It wrote to standard output.
    Stdout(OutputChunk),
    /// It wrote to standard error.
    Stderr(OutputChunk),
    /// It wrote to its terminal.
    Tty(OutputChunk),
    /// It ended; all output was sent.
    End(ExecEnd),
    /// The stream cannot go on.
    Error(ErrorBody),
    /// Nothing happened for a while.
    Keepalive,
}

/// A piece of a command's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputChunk {
    /// The bytes, in the order they were written.
    pub data: Base64,
    /// How many bytes of all its output came before these.
    pub offset: u64,
}

/// A text message from the client on the WebSocket; binary messages are bytes for standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExecInput {
    /// The terminal has another size now.
    Resize {
        /// Columns, at least 1.
        cols: u16,
        /// Rows, at least 1.
        rows: u16,
    },
    /// Send a signal, as [`SignalRequest`] does.
    Signal {
        /// Its name without `SIG`, such as `TERM`.
        signal: String,
    },
    /// Standard input ends here.
    StdinClose,
}

/// The first byte of a binary message from the server on the WebSocket; the output follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OutputStream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// The terminal.
    Tty = 3,
}

impl OutputStream {
    /// The stream of that first byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Tty),
            _ => None,
        }
    }
}

/// `GET /v1/sandboxes/{id}/exec`: commands that run, and those that ended and are still kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecList {
    /// Oldest first.
    pub execs: Vec<ExecInfo>,
}

/// One command of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecInfo {
    /// Its identity within the sandbox.
    pub exec_id: String,
    /// Its process id as seen inside.
    pub pid: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ExecEnd>,
}

/// `POST /v1/sandboxes/{id}/exec/{exec_id}/signal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"signal": "TERM"})))]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Its name without `SIG`, such as `TERM`, or its number as text. `KILL` reaches the whole
    /// process tree, every other signal the one process.
    pub signal: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_tagged_by_type() {
        let start = ExecEvent::Start(ExecStarted { exec_id: "ex-1".into(), pid: 7 });
        assert_eq!(
            serde_json::to_string(&start).unwrap(),
            r#"{"type":"start","exec_id":"ex-1","pid":7}"#
        );
        let chunk = ExecEvent::Stdout(OutputChunk { data: Base64(b"hi".to_vec()), offset: 4 });
        assert_eq!(
            serde_json::to_string(&chunk).unwrap(),
            r#"{"type":"stdout","data":"aGk=","offset":4}"#
        );
        let alive: ExecEvent = serde_json::from_str(r#"{"type":"keepalive"}"#).unwrap();
        assert_eq!(alive, ExecEvent::Keepalive);
    }

    #[test]
    fn an_outcome_is_flat() {
        let json = r#"{"exec_id":"e","pid":2,"exit_code":137,"signal":9,"timed_out":true,
            "stdout":"a","stderr":"","truncated":false,"duration_ms":5}"#;
        let outcome: ExecOutcome = serde_json::from_str(json).unwrap();
        assert_eq!(outcome.end.signal, Some(9));
        assert!(outcome.end.timed_out);
        let written = serde_json::to_value(&outcome).unwrap();
        assert_eq!(written["exit_code"], 137);
        assert!(written.get("out_of_memory").is_none());
    }

    #[test]
    fn a_request_needs_its_command_and_refuses_what_it_does_not_know() {
        assert!(serde_json::from_str::<ExecRequest>("{}").is_err());
        let error =
            serde_json::from_str::<ExecRequest>(r#"{"command":["a"],"cwd":"/"}"#).unwrap_err();
        assert!(error.to_string().contains("`cwd`"), "{error}");
    }

    #[test]
    fn control_messages_read_back() {
        for json in [
            r#"{"type":"resize","cols":80,"rows":24}"#,
            r#"{"type":"signal","signal":"TERM"}"#,
            r#"{"type":"stdin_close"}"#,
        ] {
            let input: ExecInput = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&input).unwrap(), json);
        }
    }
}
