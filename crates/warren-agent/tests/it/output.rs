//! Readers that go, come back, are slow, or many.

use std::io::Write as _;

use warren_proto::process::process_event::Event;
use warren_proto::process::process_input::Input;
use warren_proto::process::{
    CloseStdinRequest, CloseStdinResponse, ProcessInput, SendInputRequest, SendInputResponse,
    StartRequest,
};
use warren_proto::{Code, Codec};

use crate::client::{Agent, bytes, eventually, selector, shell};

/// A process that says back what it is told, and keeps its output.
fn echo(spool: bool) -> StartRequest {
    StartRequest { stdin: Some(true), spool, ..shell("cat") }
}

async fn say(agent: &Agent, pid: u32, text: &str) {
    let input = ProcessInput { input: Some(Input::Stdin(text.to_owned().into())) };
    let request = SendInputRequest { process: selector(pid).into(), input: input.into() };
    let _: SendInputResponse = agent.call("process.Process/SendInput", &request).await.unwrap();
}

async fn hang_up(agent: &Agent, pid: u32) {
    let request = CloseStdinRequest { process: selector(pid).into() };
    let _: CloseStdinResponse = agent.call("process.Process/CloseStdin", &request).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_comes_back_has_what_it_missed() {
    let agent = Agent::start().await;
    let mut process = agent.spawn(echo(true)).await;
    let pid = process.pid;
    say(&agent, pid, "first ").await;
    process.until("first ").await;
    drop(process);
    say(&agent, pid, "second ").await;
    for (offset, expected) in [(0, "first second "), (6, "second "), (8, "cond ")] {
        let mut again = agent.attach(pid, Some(offset)).await.unwrap();
        assert_eq!(again.until("cond ").await, expected);
    }
    let last = agent.attach(pid, Some(6)).await.unwrap();
    say(&agent, pid, "third").await;
    hang_up(&agent, pid).await;
    let done = last.finish().await;
    assert_eq!((done.text(), done.first), ("second third", Some(6)));
    let late = agent.attach(pid, Some(0)).await.unwrap().finish().await;
    assert_eq!((late.text(), late.end.exit_code), ("first second third", 0));
    assert_eq!(agent.attach(pid, Some(999)).await.unwrap().finish().await.text(), "");
}

#[tokio::test]
async fn without_a_spool_only_what_comes_is_told_and_the_end_is_kept() {
    let agent = Agent::start().await;
    let mut one = agent.spawn(echo(false)).await;
    let pid = one.pid;
    say(&agent, pid, "before").await;
    one.until("before").await;
    let two = agent.attach(pid, None).await.unwrap();
    say(&agent, pid, "after").await;
    hang_up(&agent, pid).await;
    assert_eq!(one.finish().await.text(), "after");
    assert_eq!(two.finish().await.text(), "after");
    let late = agent.attach(pid, Some(0)).await.unwrap().finish().await;
    assert_eq!((late.text(), late.end.status.as_str()), ("", "exit status 0"));
    let unknown = agent.attach(999_999, None).await.err().unwrap();
    assert_eq!(unknown.code, Code::NotFound);
}

#[tokio::test]
async fn the_spool_keeps_the_newest_and_says_where_it_starts() {
    let agent = Agent::start().await;
    let request = StartRequest { spool: true, ..shell("seq 1 1000000") };
    let process = agent.spawn(request).await;
    let pid = process.pid;
    let all = process.finish().await;
    assert_eq!(all.stdout.len(), 6_888_896);
    let kept = agent.attach(pid, Some(0)).await.unwrap().finish().await;
    let start = usize::try_from(kept.first.unwrap()).unwrap();
    assert!((900 << 10..=1 << 20).contains(&kept.stdout.len()), "{}", kept.stdout.len());
    assert!(kept.stdout == all.stdout[start..]);
}

#[tokio::test]
async fn a_process_without_readers_never_waits() {
    let agent = Agent::start().await;
    let done = agent.path("done");
    for spool in [true, false] {
        let script = format!("seq 1 500000; touch {done}");
        let process = agent.spawn(StartRequest { spool, ..shell(&script) }).await;
        drop(process);
        eventually("the end of a process that nobody reads", || std::fs::exists(&done).unwrap())
            .await;
        std::fs::remove_file(&done).unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_holds_the_process_back_and_gets_every_byte() {
    const LAST: u64 = 25_000_000; // 213,888,897 bytes of output
    let agent = Agent::start().await;
    let mut process = agent.spawn(shell(&format!("seq 1 {LAST}"))).await;
    let seq = move || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid));
        children.ok().and_then(|it| it.trim().parse::<u32>().ok()).unwrap_or(process.pid)
    };
    // Nobody reads: the pipe fills, and the writer sleeps in its write.
    eventually("the writer to wait", || {
        let channel = std::fs::read_to_string(format!("/proc/{}/wchan", seq()));
        channel.unwrap_or_default().contains("pipe")
    })
    .await;
    let mut expected = Numbers::up_to(LAST);
    let mut total = 0;
    loop {
        match process.next().await.unwrap().unwrap() {
            Event::Data(data) => {
                let bytes = bytes(&data.output);
                assert!(bytes.len() <= 32 << 10);
                assert_eq!(data.offset, total);
                expected.check(bytes);
                total += bytes.len() as u64;
            }
            Event::End(end) => break assert_eq!(end.exit_code, 0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(total, 213_888_897);
    assert!(agent.peak_memory_kib() < 40 << 10, "{} KiB", agent.peak_memory_kib());
}

/// What `seq` writes, made again to compare with.
struct Numbers {
    next: u64,
    last: u64,
    pending: Vec<u8>,
}

impl Numbers {
    fn up_to(last: u64) -> Self {
        Self { next: 1, last, pending: Vec::new() }
    }

    fn check(&mut self, bytes: &[u8]) {
        while self.pending.len() < bytes.len() && self.next <= self.last {
            writeln!(self.pending, "{}", self.next).unwrap();
            self.next += 1;
        }
        let rest = self.pending.split_off(bytes.len());
        assert!(self.pending == bytes, "output differs before {}", self.next);
        self.pending = rest;
    }
}

#[tokio::test]
async fn bytes_are_bytes_in_both_codecs() {
    let agent = Agent::start().await;
    let all: Vec<u8> = (0..=255).collect();
    std::fs::write(agent.path("bytes"), &all).unwrap();
    let script = format!("cat {}", agent.path("bytes"));
    assert_eq!(agent.run(&script).await.stdout, all);
    let mut stream: crate::client::Stream<warren_proto::process::StartResponse> =
        agent.stream(Codec::Json, "process.Process/Start", &[], &shell(&script)).await;
    let mut seen = Vec::new();
    while let Some(response) = stream.next().await.unwrap() {
        if let Some(Event::Data(data)) = &response.event.event {
            seen.extend_from_slice(bytes(&data.output));
        }
    }
    assert_eq!(seen, all);
}
