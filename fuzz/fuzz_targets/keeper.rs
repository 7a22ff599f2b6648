//! Messages between server, keeper and guest: what is accepted is exactly what encodes to it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_proto::keeper::{Event, Guest, Message, Progress, Request};

fuzz_target!(|bytes: &[u8]| {
    canonical::<Request>(bytes);
    canonical::<Event>(bytes);
    canonical::<Guest>(bytes);
    canonical::<Progress>(bytes);
});

fn canonical<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(M::decode(&message.encode()), Ok(message));
    }
}
