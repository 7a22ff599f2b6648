//! The first bytes of a guest's connection: what they are does not depend on how they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = warren_egress::fuzzing::first(bytes, usize::MAX);
    for at_once in [1, 3, 100] {
        assert_eq!(warren_egress::fuzzing::first(bytes, at_once), whole, "{at_once}");
    }
});
