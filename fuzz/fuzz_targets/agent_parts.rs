//! What the agent reads in requests: forms in pieces of any size, queries, headers, patterns.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_agent::fuzzing;

fuzz_target!(|input: (u8, &str, &[u8])| {
    let (size, text, bytes) = input;
    let (whole, pieces) = (fuzzing::form(bytes, bytes.len()), fuzzing::form(bytes, size.into()));
    assert_eq!(whole.2, pieces.2, "one is whole and the other is not");
    // What is no form breaks off, later in small pieces.
    if whole.2 {
        assert_eq!(whole, pieces);
    }
    fuzzing::texts(text);
});
