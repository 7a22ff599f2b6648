//! The frame of streamed messages.
//!
//! | bytes    | field    | shape                                                          |
//! |----------|----------|----------------------------------------------------------------|
//! | `0`      | `flags`  | `0x00` a message, `0x01` compressed (never sent), `0x02` the end |
//! | `1..5`   | `length` | `u32`, big-endian: size of the payload                         |
//! | `5..5+n` | payload  | a message in the stream's codec; of the end: always JSON       |
//!
//! An HTTP body is cut anywhere: [`Decoder`] takes pieces of any size and gives whole envelopes.

use buffa::bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::message::{Codec, CodecError, WireMessage};
use crate::status::Status;

/// Flag bit of a compressed payload. Warren never sends one and refuses to read one.
pub const COMPRESSED: u8 = 0x01;
/// Flag bit of the last envelope of a response.
pub const END_OF_STREAM: u8 = 0x02;
/// Bytes before a payload.
pub const HEADER_BYTES: usize = 5;
/// The largest payload that [`Decoder::default`] accepts. Output arrives in chunks of 32 KiB; one
/// listing of a large directory is what needs more.
pub const DEFAULT_LIMIT_BYTES: usize = 16 << 20;

/// Bytes that are no sequence of envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A payload longer than the limit.
    #[error("envelope of {length} bytes, where {limit} are allowed")]
    TooLong {
        /// The length it announces.
        length: usize,
        /// The length allowed.
        limit: usize,
    },
    /// Flags that nobody asked for.
    #[error("envelope with flags {flags:#04x}")]
    Flags {
        /// The flags.
        flags: u8,
    },
    /// The stream stopped inside an envelope.
    #[error("stream ended inside an envelope")]
    Truncated,
}

/// One envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// One message, in the stream's codec.
    Message(Bytes),
    /// The end: JSON for [`Status::from_end_of_stream`].
    End(Bytes),
}

/// Takes envelopes out of bytes that arrive in any pieces.
///
/// Holds at most one payload's limit plus the piece given last.
///
/// # Examples
///
/// ```
/// use warren_proto::envelope::{Decoder, Envelope};
///
/// let mut decoder = Decoder::default();
/// decoder.push(&[0, 0, 0, 0, 2, b'o']);
/// assert_eq!(decoder.next()?, None);
/// decoder.push(b"k");
/// assert_eq!(decoder.next()?, Some(Envelope::Message("ok".into())));
/// decoder.finish()?;
/// # Ok::<(), warren_proto::envelope::EnvelopeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT_BYTES)
    }
}

impl Decoder {
    /// A decoder that refuses payloads over `limit_bytes`.
    pub fn with_limit(limit_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), limit_bytes }
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole envelope, or `None` until more bytes are pushed.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::TooLong`] and [`EnvelopeError::Flags`]. The stream cannot be read on.
    #[expect(clippy::should_implement_trait, reason = "it fails, and ends only for now")]
    pub fn next(&mut self) -> Result<Option<Envelope>, EnvelopeError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [flags, a, b, c, d] = *header;
        if flags & !END_OF_STREAM != 0 {
            return Err(EnvelopeError::Flags { flags });
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize; // usize is 64 bits everywhere
        if length > self.limit_bytes {
            return Err(EnvelopeError::TooLong { length, limit: self.limit_bytes });
        }
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        Ok(Some(match flags {
            END_OF_STREAM => Envelope::End(payload),
            _ => Envelope::Message(payload),
        }))
    }

    /// Says whether the stream stopped between two envelopes.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::Truncated`] when it stopped inside one.
    pub fn finish(&self) -> Result<(), EnvelopeError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(EnvelopeError::Truncated) }
    }
}

/// Frames one message, for the body of a request or a response.
///
/// # Errors
///
/// As [`Codec::encode`].
pub fn encode_message<M: WireMessage>(codec: Codec, message: &M) -> Result<Bytes, CodecError> {
    Ok(frame(0, &codec.encode(message)?))
}

/// Frames the end of a response; `None` ends it well.
pub fn encode_end(status: Option<&Status>) -> Bytes {
    frame(END_OF_STREAM, &Status::to_end_of_stream(status))
}

/// A payload with its header. Messages are far below 4 GiB; a longer one would be cut off by the
/// header, so its length saturates and the reader refuses it.
fn frame(flags: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_u8(flags);
    bytes.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    bytes.put_slice(payload);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ListRequest;
    use crate::status::Code;

    #[test]
    fn pieces_of_any_size_give_the_same_envelopes() {
        let status = Status::new(Code::NotFound, "gone");
        let mut wire = encode_message(Codec::Json, &ListRequest {}).unwrap().to_vec();
        wire.extend_from_slice(&frame(0, &[7; 300]));
        wire.extend_from_slice(&encode_end(Some(&status)));
        for size in 1..wire.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(size) {
                decoder.push(piece);
                while let Some(envelope) = decoder.next().unwrap() {
                    seen.push(envelope);
                }
            }
            decoder.finish().unwrap();
            let [Envelope::Message(one), Envelope::Message(two), Envelope::End(end)] = &seen[..]
            else {
                panic!("{seen:?}")
            };
            assert_eq!((&one[..], &two[..]), (&b"{}"[..], &[7; 300][..]));
            assert_eq!(Status::from_end_of_stream(end), Err(status.clone()));
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let mut decoder = Decoder::with_limit(8);
        decoder.push(&[0, 0, 0, 0, 9]);
        assert_eq!(decoder.next(), Err(EnvelopeError::TooLong { length: 9, limit: 8 }));
        let mut decoder = Decoder::default();
        decoder.push(&[COMPRESSED, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(EnvelopeError::Flags { flags: 1 }));
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0]);
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.finish(), Err(EnvelopeError::Truncated));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
            let mut decoder = Decoder::with_limit(64);
            decoder.push(&bytes);
            while let Ok(Some(envelope)) = decoder.next() {
                if let Envelope::End(end) = envelope {
                    drop(Status::from_end_of_stream(&end));
                }
            }
        }
    }
}
