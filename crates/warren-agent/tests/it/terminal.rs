//! Processes with a terminal.

use warren_proto::process::process_input::Input;
use warren_proto::process::pty::Size;
use warren_proto::process::{
    CloseStdinRequest, CloseStdinResponse, PTY, ProcessInput, SendInputRequest, SendInputResponse,
    StartRequest, UpdateRequest, UpdateResponse,
};
use warren_proto::{Code, Status};

use crate::client::{Agent, command, selector, shell};

fn terminal(script: &str, cols: u32, rows: u32) -> StartRequest {
    let pty = PTY { size: Size { cols, rows }.into() };
    StartRequest { pty: pty.into(), stdin: None, ..shell(script) }
}

async fn write(agent: &Agent, pid: u32, input: Input) -> Result<(), Status> {
    let input = ProcessInput { input: Some(input) };
    let request = SendInputRequest { process: selector(pid).into(), input: input.into() };
    agent.call("process.Process/SendInput", &request).await.map(|_: SendInputResponse| ())
}

async fn resize(agent: &Agent, pid: u32, cols: u32, rows: u32) -> Result<(), Status> {
    let pty = PTY { size: Size { cols, rows }.into() };
    let request = UpdateRequest { process: selector(pid).into(), pty: pty.into() };
    agent.call("process.Process/Update", &request).await.map(|_: UpdateResponse| ())
}

#[tokio::test]
async fn a_terminal_has_a_size_takes_keys_and_is_resized() {
    let agent = Agent::start().await;
    let script = "tty; stty size; read line; echo \"got $line\"; stty size; echo $TERM; exit 5";
    let mut process = agent.spawn(terminal(script, 100, 30)).await;
    assert!(process.until("30 100").await.contains("/dev/pts/"));
    resize(&agent, process.pid, 77, 11).await.unwrap();
    write(&agent, process.pid, Input::Pty("hello\r".into())).await.unwrap();
    let done = process.finish().await;
    let text = String::from_utf8(done.terminal).unwrap();
    assert!(text.contains("got hello\r\n11 77\r\nxterm-256color\r\n"), "{text:?}");
    assert_eq!(done.end.exit_code, 5);
    assert!(done.stdout.is_empty() && done.stderr.is_empty());
}

#[tokio::test]
async fn keys_become_signals() {
    let agent = Agent::start().await;
    let mut process = agent.spawn(terminal("echo on; exec sleep 1000", 80, 24)).await;
    process.until("on").await;
    write(&agent, process.pid, Input::Pty("\u{3}".into())).await.unwrap();
    assert_eq!(process.finish().await.end.signal, 2);
}

#[tokio::test]
async fn all_output_arrives_before_the_end() {
    let agent = Agent::start().await;
    for _ in 0..5 {
        let done = agent.spawn(terminal("seq 1 20000", 80, 24)).await.finish().await;
        let text = String::from_utf8(done.terminal).unwrap();
        assert!(text.ends_with("19999\r\n20000\r\n"), "{:?}", text.get(text.len() - 30..));
        assert_eq!(text.len(), 128_894);
    }
}

#[tokio::test]
async fn a_shell_that_leaves_somebody_on_the_terminal_still_ends() {
    let agent = Agent::start().await;
    let script = "trap '' HUP; sleep 1000 & echo left";
    let process = agent.spawn(terminal(script, 80, 24)).await;
    let pid = process.pid;
    let done = process.finish().await;
    assert_eq!((&done.terminal[..], done.end.exit_code), (&b"left\r\n"[..], 0));
    let request = warren_proto::process::SendSignalRequest {
        process: selector(pid).into(),
        signal: 9.into(),
        tree: true,
    };
    let _: warren_proto::process::SendSignalResponse =
        agent.call("process.Process/SendSignal", &request).await.unwrap();
}

#[tokio::test]
async fn terminals_and_pipes_are_not_mixed_up() {
    let agent = Agent::start().await;
    let process = agent.spawn(terminal("sleep 1000", 80, 24)).await;
    let refused = |status: Result<(), Status>| {
        assert_eq!(status.unwrap_err().code, Code::FailedPrecondition);
    };
    refused(write(&agent, process.pid, Input::Stdin("x".into())).await);
    let request = CloseStdinRequest { process: selector(process.pid).into() };
    let closed: Result<CloseStdinResponse, _> =
        agent.call("process.Process/CloseStdin", &request).await;
    refused(closed.map(drop));
    assert_eq!(resize(&agent, process.pid, 0, 5).await.unwrap_err().code, Code::InvalidArgument);
    let pipes = StartRequest { stdin: Some(true), ..command(&["sleep", "1000"]) };
    let pipes = agent.spawn(pipes).await;
    refused(write(&agent, pipes.pid, Input::Pty("x".into())).await);
    refused(resize(&agent, pipes.pid, 80, 24).await);
    assert_eq!(resize(&agent, 999_999, 80, 24).await.unwrap_err().code, Code::NotFound);
}
