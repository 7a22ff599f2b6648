//! What netlink sockets bring: splitting never reads past a message or runs for ever.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_sys::netlink::message::{Attributes, split_answers};

fuzz_target!(|bytes: &[u8]| {
    let answers = split_answers(bytes);
    let bodies: usize = answers.iter().map(|answer| answer.body.len()).sum();
    assert!(bodies <= bytes.len());
    for answer in &answers {
        if let Some((_, attributes)) = answer.split::<16>() {
            walk(attributes, 0);
        }
    }
});

/// Reads every attribute in every way, and as if it held further ones.
fn walk(attributes: Attributes<'_>, depth: u8) {
    for (kind, value) in attributes {
        let _any =
            (attributes.find_u32(kind), attributes.find_ipv4(kind), attributes.find_text(kind));
        if depth < 3 {
            walk(Attributes::new(value), depth + 1);
        }
    }
}
