//! The error that both sides speak: a code for machines and a sentence for people.

use serde::{Deserialize, Serialize};

/// What went wrong, in the sixteen words of the Connect protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The caller gave up.
    Canceled,
    /// Nobody knows.
    Unknown,
    /// The request makes no sense, whatever the state of the sandbox.
    InvalidArgument,
    /// It took longer than the caller allowed.
    DeadlineExceeded,
    /// There is no such thing.
    NotFound,
    /// There is such a thing already.
    AlreadyExists,
    /// The user may not.
    PermissionDenied,
    /// Something is used up.
    ResourceExhausted,
    /// Not in this state.
    FailedPrecondition,
    /// Somebody else was faster.
    Aborted,
    /// Past the end.
    OutOfRange,
    /// Not offered here.
    Unimplemented,
    /// The agent is at fault.
    Internal,
    /// Not now; try again.
    Unavailable,
    /// Data is gone.
    DataLoss,
    /// Nobody known.
    Unauthenticated,
}

/// Every code with its name on the wire and its HTTP status.
const TABLE: [(Code, &str, u16); 16] = [
    (Code::Canceled, "canceled", 499),
    (Code::Unknown, "unknown", 500),
    (Code::InvalidArgument, "invalid_argument", 400),
    (Code::DeadlineExceeded, "deadline_exceeded", 504),
    (Code::NotFound, "not_found", 404),
    (Code::AlreadyExists, "already_exists", 409),
    (Code::PermissionDenied, "permission_denied", 403),
    (Code::ResourceExhausted, "resource_exhausted", 429),
    (Code::FailedPrecondition, "failed_precondition", 400),
    (Code::Aborted, "aborted", 409),
    (Code::OutOfRange, "out_of_range", 400),
    (Code::Unimplemented, "unimplemented", 501),
    (Code::Internal, "internal", 500),
    (Code::Unavailable, "unavailable", 503),
    (Code::DataLoss, "data_loss", 500),
    (Code::Unauthenticated, "unauthenticated", 401),
];

impl Code {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("unknown", |row| row.1)
    }

    /// The code of a name; one that is not known reads as [`Code::Unknown`].
    pub fn from_name(name: &str) -> Self {
        TABLE.iter().find(|row| row.1 == name).map_or(Self::Unknown, |row| row.0)
    }

    /// The HTTP status of a unary answer with this code.
    pub fn http_status(self) -> u16 {
        TABLE.iter().find(|row| row.0 == self).map_or(500, |row| row.2)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    /// For machines.
    pub code: Code,
    /// For people.
    pub message: String,
}

#[derive(Serialize, Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
}

#[derive(Serialize, Deserialize, Default)]
struct EndBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

impl Status {
    /// A status of its two parts.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Reads the body of a unary answer whose HTTP status was not 200.
    ///
    /// A body that is not the protocol's JSON gives [`Code::Unknown`] and names the HTTP status.
    pub fn from_unary_body(http_status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(error) if !error.code.is_empty() => Self::from_body(error),
            _ => Self::new(Code::Unknown, format!("the agent answered HTTP {http_status}")),
        }
    }

    /// The body of a unary answer.
    pub fn to_unary_body(&self) -> Vec<u8> {
        to_json(&self.body())
    }

    /// Reads the payload of an end-of-stream envelope: `Ok` when the stream ended well.
    ///
    /// # Errors
    ///
    /// The status the other side ended with, or [`Code::Unknown`] when the payload is not JSON.
    pub fn from_end_of_stream(payload: &[u8]) -> Result<(), Self> {
        match serde_json::from_slice::<EndBody>(payload) {
            Ok(EndBody { error: None }) => Ok(()),
            Ok(EndBody { error: Some(error) }) => Err(Self::from_body(error)),
            Err(error) => Err(Self::new(Code::Unknown, format!("bad end of stream: {error}"))),
        }
    }

    /// The payload of an end-of-stream envelope; `None` ends it well.
    pub fn to_end_of_stream(status: Option<&Self>) -> Vec<u8> {
        to_json(&EndBody { error: status.map(Self::body) })
    }

    fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code.as_str().to_owned(), message: self.message.clone() }
    }

    fn from_body(body: ErrorBody) -> Self {
        Self::new(Code::from_name(&body.code), body.message)
    }
}

/// Two strings always have a JSON form; an empty object stands in for the impossible.
fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_name() {
        for (code, name, _) in TABLE {
            assert_eq!(code.as_str(), name);
            assert_eq!(Code::from_name(name), code);
            assert_eq!(serde_json::to_value(code).unwrap(), name);
        }
        assert_eq!(Code::from_name("no such"), Code::Unknown);
    }

    #[test]
    fn the_end_of_a_stream_reads_back() {
        assert_eq!(Status::to_end_of_stream(None), b"{}");
        assert_eq!(Status::from_end_of_stream(b"{}"), Ok(()));
        assert_eq!(Status::from_end_of_stream(br#"{"metadata":{"a":["b"]}}"#), Ok(()));
        let status = Status::new(Code::NotFound, "no process 7");
        let bytes = Status::to_end_of_stream(Some(&status));
        assert_eq!(bytes, br#"{"error":{"code":"not_found","message":"no process 7"}}"#);
        assert_eq!(Status::from_end_of_stream(&bytes), Err(status));
    }

    #[test]
    fn a_body_that_is_not_ours_names_the_http_status() {
        for body in [&b""[..], b"<html>", b"{}", b"[1", b"{\"code\":404}"] {
            let status = Status::from_unary_body(502, body);
            assert_eq!(status.code, Code::Unknown, "{body:?}");
            assert!(status.message.contains("502"));
        }
        let status = Status::from_unary_body(404, br#"{"code":"not_found","message":"m"}"#);
        assert_eq!(status, Status::new(Code::NotFound, "m"));
    }
}
