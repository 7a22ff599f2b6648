//! The head of a guest's push: read alike however it comes, and never more refs than it names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_git::{
    BranchName,
    wire::{PushReader, PushRight, Request, Rights},
};

fuzz_target!(|input: (&str, u8, &[u8])| {
    let (path, at_once, body) = input;
    if let Ok(request) = Request::read("POST", path, None) {
        assert_eq!(request.target(), path);
    }
    let whole = PushReader::default().feed(body);
    let mut reader = PushReader::default();
    let pieces = body.chunks(usize::from(at_once).max(1));
    let found = pieces.map(|piece| reader.feed(piece)).find(|it| *it != Ok(None));
    assert_eq!(found.unwrap_or(Ok(None)), whole);
    let Ok(Some(push)) = whole else { return };
    assert!(push.head_bytes <= body.len());
    let Ok(session) = BranchName::session("work") else { return };
    if Rights::new("a/b", PushRight::Session(session)).allow_push(&push.updates).is_ok() {
        for update in &push.updates {
            let name = update.name.strip_prefix("refs/heads/").unwrap_or_default();
            assert!(name == "work" || name.starts_with("session/work/rescue-"), "{name}");
        }
    }
});
