//! What a coding agent writes to its terminal and asks of its key, and the files about it: nothing
//! panics, no control character gets through, nothing but a commit is signed.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use warren_workspace::{
    AgentName, Profile, Record,
    env_file::EnvFile,
    identity::{Identity, agent},
    profile::{Places, document, seed},
    prompt::{Typing, typed},
    screen::Screen,
    text::{Cleaner, clean},
    words,
};

static KEY: LazyLock<Identity> =
    LazyLock::new(|| Identity::from_seed(&[7; 32]).expect("every 32 bytes are a key"));

fuzz_target!(|bytes: &[u8]| {
    let text = clean(bytes);
    assert!(text.chars().all(|it| !it.is_control() || matches!(it, '\n' | '\t')));
    // Where the bytes are parted makes no difference.
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let (mut cleaner, mut parted) = (Cleaner::default(), String::new());
    cleaner.feed(one, &mut parted);
    cleaner.feed(other, &mut parted);
    assert!(text.starts_with(&parted));
    let mut screen = Screen::default();
    screen.feed(bytes, Duration::ZERO);
    let _ = screen.activity(&Profile::default(), Duration::from_secs(60));

    let answer = agent::answer(&KEY, "comment", bytes);
    assert!(answer.len() > 4);

    let pasted = typed(&text, Typing::Pasted);
    assert_eq!(pasted.iter().filter(|it| **it == 0x1b).count(), 2);

    let file = EnvFile::parse(bytes);
    assert_eq!(EnvFile::parse(file.to_text().as_bytes()).to_text(), file.to_text());
    let name: AgentName = "name".parse().expect("it is one");
    assert_eq!(Record::parse(name.clone(), bytes).name, name);
    if let Ok(all) = words::split(&text) {
        assert_eq!(words::split(&words::join(&all)).as_ref(), Ok(&all));
    }
    let places = Places { home: "/home/me".to_owned(), script_dir: "/opt".to_owned() };
    drop(seed::parse(bytes, &places));
    drop(document::parse(&text, &places));
});
