//! Messages of both services in both codecs: what decodes encodes, and decodes again to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_proto::{Codec, Status, WireMessage, filesystem, process};

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (which, json, bytes) = input;
    let codec = if json { Codec::Json } else { Codec::Proto };
    match which % 10 {
        0 => round_trip::<process::StartRequest>(codec, bytes),
        1 => round_trip::<process::StartResponse>(codec, bytes),
        2 => round_trip::<process::ConnectRequest>(codec, bytes),
        3 => round_trip::<process::SendSignalRequest>(codec, bytes),
        4 => round_trip::<process::ListResponse>(codec, bytes),
        5 => round_trip::<process::StreamInputRequest>(codec, bytes),
        6 => round_trip::<filesystem::StatResponse>(codec, bytes),
        7 => round_trip::<filesystem::ListDirResponse>(codec, bytes),
        8 => round_trip::<filesystem::WatchDirResponse>(codec, bytes),
        _ => drop(Status::from_unary_body(u16::from(which), bytes)),
    }
});

fn round_trip<M: WireMessage + PartialEq + std::fmt::Debug>(codec: Codec, bytes: &[u8]) {
    let Ok(message) = codec.decode::<M>(bytes) else { return };
    // A value without a JSON form, such as a time outside the calendar, may refuse to be written.
    let Ok(again) = codec.encode(&message) else { return };
    assert_eq!(codec.decode::<M>(&again).expect("our own bytes"), message);
}
