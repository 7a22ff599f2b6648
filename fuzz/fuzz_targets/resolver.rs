//! Datagrams of a guest to the resolver: an answer is one, to the question and no larger than asked.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (stream, bytes) = input;
    let Some(answer) = warren_runtime::net::resolver::fuzzing::answer(bytes, stream) else {
        return;
    };
    assert!(answer.len() >= 12 && answer.len() <= usize::from(u16::MAX));
    assert_eq!(answer.get(..2), bytes.get(..2), "the query's own number");
    assert!(answer[2] & 0x80 != 0, "it is a response");
    assert!(bytes[2] & 0x80 == 0, "responses are not answered");
});
