//! The names in a guest's request: two that differ are never one, and a name is in its only form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_egress::{HostName, fuzzing};

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (target, host, other) = input;
    let alone = fuzzing::name(target, &[]);
    let Some(Some(name)) = fuzzing::name(target, &[host]) else { return };
    assert_eq!(HostName::parse(name.as_str()), Some(name.clone()));
    // Both were given, and agree; or one of them was.
    assert!(alone.is_none_or(|it| it.is_none_or(|it| it == name)));
    assert_eq!(fuzzing::name(target, &[host, other]), None, "there is one host");
});
