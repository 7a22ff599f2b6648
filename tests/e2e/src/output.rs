//! Output is what the command wrote, byte for byte, however much and however read.

use std::io::{BufRead, Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{Home, Sandbox, wait_until};

/// Every byte value, many times, in an order that shows a loss or a swap.
const ALL_BYTES: &str = "import sys\nfor i in range(256): sys.stdout.buffer.write(bytes((i * j) % 256 for j in range(4096)))";

fn all_bytes() -> Vec<u8> {
    (0..256_usize).flat_map(|i| (0..4096_usize).map(move |j| ((i * j) % 256) as u8)).collect()
}

#[test]
fn every_byte_arrives_through_the_command_line() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let said = home.warren(&["run", "--", "python3", "-c", ALL_BYTES]).good();
    assert_eq!(said.stdout.len(), 1 << 20);
    assert!(said.stdout == all_bytes(), "the bytes differ");
}

#[test]
fn the_two_streams_stay_apart() {
    let home = Home::new();
    let said = home.warren(&["run", "--", "sh", "-c", "echo out; echo err >&2"]).good();
    assert_eq!(said.text(), "out\n");
    assert!(said.errors().ends_with("err\n"), "{}", said.errors());
}

#[test]
fn what_is_not_text_comes_as_base64() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let outcome = sandbox.exec(&["printf", r"\377\376a"]);
    let bytes = BASE64_STANDARD.decode(outcome["stdout_base64"].as_str().unwrap()).unwrap();
    assert_eq!(bytes, b"\xff\xfea", "{outcome}");
    assert_eq!(outcome["truncated"], false);
}

#[test]
fn much_output_is_passed_on_whole() {
    let home = Home::new();
    let said = home.warren(&["run", "--", "head", "-c", "50000000", "/dev/zero"]).good();
    assert_eq!(said.stdout.len(), 50_000_000);
}

#[test]
fn a_stream_has_offsets_and_ends_with_the_exit_status() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let events = stream(&sandbox, &json!({"command": ["sh", "-c", "echo one; echo two; exit 3"]}));
    assert_eq!(events[0]["type"], "start", "{events:?}");
    let end = events.last().unwrap();
    assert_eq!((&end["type"], &end["exit_code"]), (&json!("end"), &json!(3)), "{events:?}");
    assert_eq!(text_of(&events), "one\ntwo\n");
    let mut expected = 0;
    for event in events.iter().filter(|event| event["type"] == "stdout") {
        assert_eq!(event["offset"], expected, "{events:?}");
        expected += BASE64_STANDARD.decode(event["data"].as_str().unwrap()).unwrap().len();
    }
}

#[test]
fn a_command_outlives_its_reader_and_is_read_again_from_the_start() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let line = "echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 4";
    let started = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    let exec = started["exec_id"].as_str().unwrap().to_owned();
    sandbox.exec(&["touch", "/tmp/go"]);
    let again = lines(&sandbox, "GET", &format!("/exec/{exec}/output?offset=0"), b"");
    assert_eq!(text_of(&again), "before\nafter\n");
    assert_eq!(again.last().unwrap()["exit_code"], 4, "{again:?}");
    let rest = lines(&sandbox, "GET", &format!("/exec/{exec}/output?offset=7"), b"");
    assert_eq!(text_of(&rest), "after\n");
}

#[test]
fn a_slow_reader_holds_the_writer_back() {
    let home = Home::new();
    let sandbox = home.create(&json!({"memory_bytes": 268_435_456}));
    let request = json!({"command": ["sh", "-c", "yes | head -c 300000000; touch /tmp/done"]});
    let path = format!("/v1/sandboxes/{}/exec", sandbox.id);
    let mut stream = home.open("POST", &path, request.to_string().as_bytes());
    let mut first = String::new();
    stream.read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    // Nobody reads on: were there no back-pressure, the server or the agent would hold it all.
    let before = server_memory(&home);
    let written = || sandbox.exec(&["test", "-e", "/tmp/done"])["exit_code"] == 0;
    for _ in 0..20 {
        assert!(!written(), "300 MB went somewhere though nobody read them");
    }
    assert!(server_memory(&home) < before + 64_000_000, "the server holds what nobody reads");
    std::io::copy(&mut stream.take(1 << 30), &mut std::io::sink()).unwrap();
    wait_until("the writer finishes once it is read", written);
}

#[test]
fn a_timeout_kills_the_whole_tree_and_keeps_what_was_said() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let line = "echo said; (setsid sleep 1000 &) ; sleep 1000";
    let outcome = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "timeout_ms": 300}));
    assert_eq!(outcome["timed_out"], true, "{outcome}");
    assert_eq!(outcome["stdout"], "said\n");
    wait_until("no sleeper is left", || sandbox.root("pgrep -c sleep || true") == "0\n");
}

fn server_memory(home: &Home) -> u64 {
    let pid = home.server_pid().expect("a server runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn stream(sandbox: &Sandbox<'_>, request: &Value) -> Vec<Value> {
    lines(sandbox, "POST", "/exec", request.to_string().as_bytes())
}

/// The events of an NDJSON answer.
pub(crate) fn lines(sandbox: &Sandbox<'_>, method: &str, path: &str, body: &[u8]) -> Vec<Value> {
    let path = format!("/v1/sandboxes/{}{path}", sandbox.id);
    let answer = sandbox.home.lines(method, &path, body);
    let events = answer.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
    events.filter(|event: &Value| event["type"] != "keepalive").collect()
}

/// What the events carry of standard output, as text.
pub(crate) fn text_of(events: &[Value]) -> String {
    let chunks = events.iter().filter(|event| event["type"] == "stdout");
    let bytes =
        chunks.flat_map(|event| BASE64_STANDARD.decode(event["data"].as_str().unwrap()).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}
