//! Deadlines, and processes with all that they started.

use warren_proto::process::{SendSignalRequest, SendSignalResponse, StartRequest};
use warren_proto::{Code, Status};

use crate::client::{Agent, command, eventually, lives, selector, shell};

/// A shell, its child, a child in a session of its own, a daemon that forked twice, and one that
/// also cleared its environment. All tell their pids.
const FAMILY: &str = "sleep 1000 & echo $!; \
    setsid sh -c 'echo $$; exec sleep 1000' & \
    (setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\"); exec sleep 1000) &' &); \
    (env -i setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\"); exec sleep 1000) &' &); \
    while :; do sleep 1000; done";

async fn family(
    agent: &Agent,
    request: StartRequest,
    headers: &[(&str, &str)],
) -> (crate::client::Process, Vec<u32>) {
    let mut process = agent.spawn_with(headers, request).await.unwrap();
    let mut text = String::new();
    while text.lines().count() < 4 {
        text += &process.until("\n").await;
    }
    let mut pids: Vec<u32> = text.lines().map(|it| it.trim().parse().unwrap()).collect();
    pids.push(process.pid);
    assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    (process, pids)
}

async fn all_end(pids: &[u32]) {
    eventually("the end of the whole tree", || !pids.iter().any(|pid| lives(*pid))).await;
}

#[tokio::test]
async fn a_tree_is_killed_with_its_daemons() {
    let agent = Agent::start().await;
    let (process, pids) = family(&agent, shell(FAMILY), &[]).await;
    let other = agent.spawn(command(&["sleep", "1000"])).await;
    let request =
        SendSignalRequest { process: selector(process.pid).into(), signal: 9.into(), tree: true };
    let _: SendSignalResponse = agent.call("process.Process/SendSignal", &request).await.unwrap();
    all_end(&pids).await;
    assert_eq!(process.finish().await.end.signal, 9);
    assert!(lives(other.pid), "others are left alone");
}

#[tokio::test]
async fn the_callers_timeout_kills_the_tree_and_fails_the_stream() {
    let agent = Agent::start().await;
    let headers = [("connect-timeout-ms", "4000")];
    let (process, pids) = family(&agent, shell(FAMILY), &headers).await;
    let pid = process.pid;
    assert_eq!(process.fail().await.code, Code::DeadlineExceeded);
    all_end(&pids).await;
    let end = agent.attach(pid, None).await.unwrap().finish().await.end;
    assert_eq!((end.signal, end.timed_out), (9, true));
}

#[tokio::test]
async fn a_callers_timeout_holds_after_the_caller_has_gone() {
    let agent = Agent::start().await;
    let headers = [("connect-timeout-ms", "4000")];
    let (process, pids) = family(&agent, shell(FAMILY), &headers).await;
    drop(process);
    all_end(&pids).await;
}

#[tokio::test]
async fn the_native_timeout_kills_the_tree_and_the_stream_tells_the_end() {
    let agent = Agent::start().await;
    let request = StartRequest { kill_tree_on_timeout: 4000, spool: true, ..shell(FAMILY) };
    let (process, pids) = family(&agent, request, &[]).await;
    let end = process.finish().await.end;
    assert_eq!((end.signal, end.timed_out), (9, true));
    all_end(&pids).await;
}

#[tokio::test]
async fn a_timeout_of_an_attached_reader_ends_its_stream_only() {
    let agent = Agent::start().await;
    let process = agent.spawn(command(&["sleep", "1000"])).await;
    let request = warren_proto::process::ConnectRequest {
        process: selector(process.pid).into(),
        offset: None,
    };
    let mut stream: crate::client::Stream<warren_proto::process::ConnectResponse> = agent
        .stream(
            warren_proto::Codec::Json,
            "process.Process/Connect",
            &[("connect-timeout-ms", "300")],
            &request,
        )
        .await;
    assert!(stream.next().await.unwrap().is_some());
    let expected = Status::new(Code::DeadlineExceeded, "the time of the call is over");
    assert_eq!(stream.next().await, Err(expected));
    assert!(lives(process.pid));
}

#[tokio::test]
async fn a_process_that_ends_in_time_is_not_touched() {
    let agent = Agent::start().await;
    let headers = [("connect-timeout-ms", "60000")];
    let request = StartRequest { kill_tree_on_timeout: 60_000, ..shell("echo fine") };
    let done = agent.spawn_with(&headers, request).await.unwrap().finish().await;
    assert_eq!((done.text(), done.end.timed_out), ("fine", false));
}

#[tokio::test]
async fn orphans_do_not_disturb_the_agent() {
    let agent = Agent::start().await;
    for _ in 0..20 {
        assert_eq!(agent.run("(sleep 0.01 &) ; (exit 3 &) ; echo ok").await.text(), "ok");
    }
    assert_eq!(agent.http("GET", "/health", &[], "").await.status, 204);
}
