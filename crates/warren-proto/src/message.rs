//! Messages as bytes, in either of the two codecs.

use buffa::bytes::Bytes;
use buffa::{DecodeOptions, Message};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message that both codecs can carry. Every generated message is one.
pub trait WireMessage: Message + Serialize + DeserializeOwned {}

impl<M: Message + Serialize + DeserializeOwned> WireMessage for M {}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Protobuf's binary form. What Warren's own host side uses: bytes are not base64.
    Proto,
    /// Protobuf's JSON form. What E2B's SDKs use.
    Json,
}

/// A message that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not this message.
    #[error("decode {message} from binary")]
    DecodeProto {
        /// Full name of the message.
        message: &'static str,
        /// What is wrong with them.
        #[source]
        source: buffa::DecodeError,
    },
    /// The text is not this message.
    #[error("decode {message} from JSON")]
    DecodeJson {
        /// Full name of the message.
        message: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The message has no JSON form, such as a time outside of RFC 3339.
    #[error("encode {message} as JSON")]
    EncodeJson {
        /// Full name of the message.
        message: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Codec {
    /// The content type of a unary request or response.
    pub const fn unary_content_type(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }

    /// The content type of a stream of envelopes.
    pub const fn stream_content_type(self) -> &'static str {
        match self {
            Self::Proto => "application/connect+proto",
            Self::Json => "application/connect+json",
        }
    }

    /// Writes one message.
    ///
    /// # Errors
    ///
    /// [`CodecError::EncodeJson`] when a value has no JSON form. Binary cannot fail.
    pub fn encode<M: WireMessage>(self, message: &M) -> Result<Bytes, CodecError> {
        match self {
            Self::Proto => Ok(message.encode_to_bytes()),
            Self::Json => serde_json::to_vec(message)
                .map(Bytes::from)
                .map_err(|source| CodecError::EncodeJson { message: name::<M>(), source }),
        }
    }

    /// Reads one message. Unknown fields are ignored; JSON field names may be lowerCamelCase or
    /// snake_case. The bytes may be anything.
    ///
    /// # Errors
    ///
    /// [`CodecError::DecodeProto`] or [`CodecError::DecodeJson`] when they are not this message.
    pub fn decode<M: WireMessage>(self, bytes: &[u8]) -> Result<M, CodecError> {
        match self {
            Self::Proto => DecodeOptions::new()
                .decode_from_slice(bytes)
                .map_err(|source| CodecError::DecodeProto { message: name::<M>(), source }),
            Self::Json => serde_json::from_slice(bytes)
                .map_err(|source| CodecError::DecodeJson { message: name::<M>(), source }),
        }
    }
}

/// The short name of a type, for messages to people.
fn name<M>() -> &'static str {
    let full = std::any::type_name::<M>();
    full.rsplit("::").next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::process_event::data_event::Output;
    use crate::process::process_event::{DataEvent, EndEvent, Event, StartEvent};
    use crate::process::{
        ListRequest, ProcessEvent, ProcessSelector, SendSignalRequest, StartRequest, StartResponse,
        process_selector::Selector,
    };

    fn event(event: impl Into<Option<Event>>) -> StartResponse {
        StartResponse { event: ProcessEvent { event: event.into() }.into() }
    }

    #[track_caller]
    fn json(message: &impl WireMessage, expected: &str) {
        let bytes = Codec::Json.encode(message).unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
    }

    #[test]
    fn events_have_the_json_that_the_sdks_read() {
        json(&event(StartEvent { pid: 7 }), r#"{"event":{"start":{"pid":7}}}"#);
        let output = Some(Output::Stdout(Bytes::from_static(b"hi\n")));
        json(&event(DataEvent { output, offset: 0 }), r#"{"event":{"data":{"stdout":"aGkK"}}}"#);
        let end = EndEvent {
            exit_code: 3,
            exited: true,
            status: "exit status 3".to_owned(),
            error: Some("exit status 3".to_owned()),
            ..EndEvent::default()
        };
        json(
            &event(end),
            r#"{"event":{"end":{"exitCode":3,"exited":true,"status":"exit status 3","error":"exit status 3"}}}"#,
        );
    }

    #[test]
    fn both_spellings_and_unknown_fields_are_read() {
        let text = br#"{"process":{"cmd":"ls","later":[1]},"kill_tree_on_timeout":"5","x":{}}"#;
        let request: StartRequest = Codec::Json.decode(text).unwrap();
        assert_eq!(request.process.cmd, "ls");
        assert_eq!(request.kill_tree_on_timeout, 5);
        assert_eq!(request.stdin, None);
        let text = br#"{"process":{"cmd":"ls"},"killTreeOnTimeout":6,"stdin":false}"#;
        let request: StartRequest = Codec::Json.decode(text).unwrap();
        assert_eq!((request.kill_tree_on_timeout, request.stdin), (6, Some(false)));
    }

    #[test]
    fn a_signal_is_read_by_name_and_by_any_number() {
        for (text, number) in [
            (r#"{"process":{"pid":3},"signal":"SIGNAL_SIGKILL"}"#, 9),
            (r#"{"process":{"pid":3},"signal":15}"#, 15),
            (r#"{"process":{"pid":3},"signal":2}"#, 2),
        ] {
            let request: SendSignalRequest = Codec::Json.decode(text.as_bytes()).unwrap();
            assert_eq!(request.signal.to_i32(), number, "{text}");
            assert_eq!(request.process.selector, Some(Selector::Pid(3)));
        }
    }

    #[test]
    fn the_binary_codec_has_the_field_numbers_of_the_protocol() {
        let selector = ProcessSelector { selector: Some(Selector::Tag("t".to_owned())) };
        let request = SendSignalRequest { process: selector.into(), signal: 9.into(), tree: true };
        let bytes = Codec::Proto.encode(&request).unwrap();
        assert_eq!(&bytes[..], [0x0a, 3, 0x12, 1, b't', 0x10, 9, 0xa0, 0x06, 1]);
        assert_eq!(Codec::Proto.decode::<SendSignalRequest>(&bytes).unwrap(), request);
    }

    #[test]
    fn a_negative_exit_code_is_zigzag() {
        let end = EndEvent { exit_code: -1, ..EndEvent::default() };
        assert_eq!(&Codec::Proto.encode(&end).unwrap()[..], [0x08, 0x01]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            for codec in [Codec::Proto, Codec::Json] {
                drop(codec.decode::<StartRequest>(&bytes));
                drop(codec.decode::<StartResponse>(&bytes));
                drop(codec.decode::<ListRequest>(&bytes));
            }
        }
    }
}
