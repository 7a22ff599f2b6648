//! Bodies of the public API: nothing panics, and what a type accepts it accepts again from itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use warren_api::{ErrorBody, event, exec, files, sandbox, server, template};

fuzz_target!(|bytes: &[u8]| {
    round_trip::<sandbox::CreateSandbox>(bytes);
    round_trip::<exec::ExecRequest>(bytes);
    round_trip::<exec::SignalRequest>(bytes);
    round_trip::<files::MoveFile>(bytes);
    round_trip::<files::ChmodFile>(bytes);
    round_trip::<files::WatchEvent>(bytes);
    round_trip::<files::ArchiveUnpacked>(bytes);
    round_trip::<template::BuildTemplate>(bytes);
    round_trip::<template::UpdateTemplate>(bytes);
    round_trip::<template::Template>(bytes);
    round_trip::<sandbox::Sandbox>(bytes);
    round_trip::<exec::ExecOutcome>(bytes);
    round_trip::<event::Event>(bytes);
    round_trip::<server::Version>(bytes);
    round_trip::<ErrorBody>(bytes);
});

fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
    let written: Value = serde_json::to_value(&value).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).expect("written once already"), written);
}
