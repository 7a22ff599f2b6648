//! Requests of any bytes on the agent's connection, in both protocols, and what it reads in them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (split, bytes) = input;
    warren_agent::fuzzing::serve(split, bytes);
});
