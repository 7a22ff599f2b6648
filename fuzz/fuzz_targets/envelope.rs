//! A hostile agent's stream: cut into pieces of any size, it gives the same envelopes as in one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_proto::{
    Status,
    envelope::{Decoder, Envelope, EnvelopeError},
};

/// Small, so that the fuzzer finds what is too long.
const LIMIT_BYTES: usize = 64 * 1024;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = decode([bytes].into_iter());
    let pieces = decode(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces);
    for envelope in whole.0 {
        if let Envelope::End(payload) = envelope {
            let _good_or_bad = Status::from_end_of_stream(&payload);
        }
    }
});

/// What the stream gives up to its end or its first error.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Envelope>, Option<EnvelopeError>) {
    let mut decoder = Decoder::with_limit(LIMIT_BYTES);
    let mut envelopes = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(envelope)) => envelopes.push(envelope),
                Ok(None) => break,
                Err(error) => return (envelopes, Some(error)),
            }
        }
    }
    (envelopes, decoder.finish().err())
}
