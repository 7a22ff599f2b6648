//! Starting, ending, signalling, feeding.

use hyper::body::Bytes;
use serde_json::json;
use warren_proto::envelope::encode_message;
use warren_proto::process::process_event::Event;
use warren_proto::process::process_input::Input;
use warren_proto::process::stream_input_request::{DataEvent, Event as InputEvent, StartEvent};
use warren_proto::process::{
    CloseStdinRequest, CloseStdinResponse, ListRequest, ListResponse, ProcessInput,
    SendInputRequest, SendInputResponse, SendSignalRequest, SendSignalResponse, StartRequest,
    StartResponse, StreamInputRequest,
};
use warren_proto::{Code, Codec, Status};

use crate::client::{Agent, Stream, command, eventually, selector, shell};

fn with_input(script: &str) -> StartRequest {
    StartRequest { stdin: Some(true), ..shell(script) }
}

async fn feed(agent: &Agent, pid: u32, bytes: impl Into<Bytes>) -> Result<(), Status> {
    let input = ProcessInput { input: Some(Input::Stdin(bytes.into())) };
    let request = SendInputRequest { process: selector(pid).into(), input: input.into() };
    agent.call("process.Process/SendInput", &request).await.map(|_: SendInputResponse| ())
}

async fn close(agent: &Agent, pid: u32) -> Result<(), Status> {
    let request = CloseStdinRequest { process: selector(pid).into() };
    agent.call("process.Process/CloseStdin", &request).await.map(|_: CloseStdinResponse| ())
}

async fn signal(agent: &Agent, pid: u32, signal: i32) -> Result<(), Status> {
    let request =
        SendSignalRequest { process: selector(pid).into(), signal: signal.into(), tree: false };
    agent.call("process.Process/SendSignal", &request).await.map(|_: SendSignalResponse| ())
}

async fn list(agent: &Agent) -> ListResponse {
    agent.call("process.Process/List", &ListRequest {}).await.unwrap()
}

#[tokio::test]
async fn both_codecs_tell_the_same_story() {
    let agent = Agent::start().await;
    for codec in [Codec::Json, Codec::Proto] {
        let request = shell("printf out; printf err >&2; exit 3");
        let mut stream: Stream<StartResponse> =
            agent.stream(codec, "process.Process/Start", &[], &request).await;
        let mut kinds = Vec::new();
        while let Some(response) = stream.next().await.unwrap() {
            let event = response.event.into_option().unwrap().event.unwrap();
            if let Event::End(end) = &event {
                assert_eq!((end.exit_code, end.exited), (3, true));
                assert_eq!(end.error.as_deref(), Some("exit status 3"));
            }
            kinds.push(match event {
                Event::Start(_) => "start",
                Event::Data(_) => "data",
                Event::End(_) => "end",
                Event::Keepalive(_) => "keepalive",
            });
        }
        assert_eq!(kinds, ["start", "data", "data", "end"], "{codec:?}");
    }
}

#[tokio::test]
async fn output_is_told_by_its_stream_with_its_position() {
    let agent = Agent::start().await;
    let done = agent.run("printf one; printf two >&2; printf three").await;
    assert_eq!((&done.stdout[..], &done.stderr[..]), (&b"onethree"[..], &b"two"[..]));
    assert_eq!(done.first, Some(0));
    assert_eq!(done.end.error, None);
    assert_eq!(done.end.status, "exit status 0");
}

#[tokio::test]
async fn the_environment_is_the_agents_the_users_the_sandboxes_and_the_callers() {
    let agent = Agent::start().await;
    let mut request =
        shell("echo $FROM_INIT $FROM_CALLER; echo $HOME | grep -c /; pwd; umask; echo $PATH $LANG");
    request.process.modify(|it| {
        it.envs.insert("FROM_CALLER".to_owned(), "too".to_owned());
    });
    let done = agent.spawn(request).await.finish().await;
    let lines: Vec<_> = done.text().lines().collect();
    let work = agent.work();
    assert_eq!(lines[..4], ["yes too", "1", work.to_str().unwrap(), "0022"]);
    assert!(lines[4].ends_with("/bin C.UTF-8"), "{lines:?}");
}

#[tokio::test]
async fn what_cannot_start_says_why_in_the_stream() {
    let agent = Agent::start().await;
    std::fs::write(agent.path("plain"), "x").unwrap();
    let plain = agent.path("plain");
    let mut lost = shell("true");
    lost.process.modify(|it| it.cwd = Some("/no/such/directory".to_owned()));
    let cases = [
        (command(&["no-such-program"]), Code::NotFound, "no-such-program: command not found"),
        (command(&["/no/such"]), Code::NotFound, "/no/such: command not found"),
        (command(&[&plain]), Code::PermissionDenied, "permission denied"),
        (command(&[""]), Code::InvalidArgument, "the command is empty"),
        (command(&["a\0b"]), Code::InvalidArgument, "zero byte"),
        (lost, Code::InvalidArgument, "cwd '/no/such/directory': no such directory"),
        (StartRequest::default(), Code::InvalidArgument, "process is missing"),
    ];
    for (request, code, message) in cases {
        let status = agent.spawn_with(&[], request).await.err().unwrap();
        assert_eq!(status.code, code, "{status}");
        assert!(status.message.contains(message), "{status}");
    }
    let headers = [("authorization", "Basic bm8tc3VjaDo=")];
    let status = agent.spawn_with(&headers, shell("true")).await.err().unwrap();
    assert_eq!(status, Status::new(Code::Unauthenticated, "invalid username: 'no-such'"));
    assert!(list(&agent).await.processes.is_empty());
}

#[tokio::test]
async fn a_killed_process_says_so() {
    let agent = Agent::start().await;
    for (number, status) in
        [(9, "signal: killed"), (15, "signal: terminated"), (2, "signal: interrupt")]
    {
        let process = agent.spawn(command(&["sleep", "1000"])).await;
        signal(&agent, process.pid, number).await.unwrap();
        let end = process.finish().await.end;
        assert_eq!((end.exit_code, end.exited, end.signal), (-1, false, number.unsigned_abs()));
        assert_eq!((end.status.as_str(), end.error.as_deref()), (status, Some(status)));
    }
}

#[tokio::test]
async fn signals_to_nobody_and_no_signals_are_refused() {
    let agent = Agent::start().await;
    assert_eq!(signal(&agent, 999_999, 9).await.unwrap_err().code, Code::NotFound);
    let process = agent.spawn(command(&["sleep", "1000"])).await;
    for number in [0, -1, 65, 4711] {
        let status = signal(&agent, process.pid, number).await.unwrap_err();
        assert_eq!(status.code, Code::InvalidArgument, "{number}");
    }
    signal(&agent, process.pid, 9).await.unwrap();
    let pid = process.pid;
    process.finish().await;
    assert_eq!(signal(&agent, pid, 9).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_signal_reaches_the_one_pid_and_its_child_does_not_delay_the_end() {
    let agent = Agent::start().await;
    let mut process = agent.spawn(shell("sleep 1000 & echo $!; wait")).await;
    let child: u32 = process.until("\n").await.trim().parse().unwrap();
    signal(&agent, process.pid, 9).await.unwrap();
    let pid = process.pid;
    assert_eq!(process.finish().await.end.signal, 9);
    assert!(lives_still(child));
    let request = SendSignalRequest { process: selector(pid).into(), signal: 9.into(), tree: true };
    let _: SendSignalResponse = agent.call("process.Process/SendSignal", &request).await.unwrap();
    eventually("the child's end", || !lives_still(child)).await;
}

fn lives_still(pid: u32) -> bool {
    crate::client::lives(pid)
}

#[tokio::test]
async fn input_arrives_whole_and_ends_when_closed() {
    let agent = Agent::start().await;
    let process = agent.spawn(with_input("cat")).await;
    let pid = process.pid;
    let text: Vec<u8> = (0..65_537_u32).map(|it| it as u8).collect();
    feed(&agent, pid, text.clone()).await.unwrap();
    close(&agent, pid).await.unwrap();
    close(&agent, pid).await.unwrap();
    assert_eq!(feed(&agent, pid, "x").await.unwrap_err().code, Code::FailedPrecondition);
    assert!(process.finish().await.stdout == text);
}

#[tokio::test]
async fn input_waits_for_a_reader_and_breaks_without_one() {
    let agent = Agent::start().await;
    let mut process = agent.spawn(with_input("exec <&-; echo closed; exec sleep 1000")).await;
    process.until("closed").await;
    let status = feed(&agent, process.pid, vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition);
    signal(&agent, process.pid, 9).await.unwrap();
    process.finish().await;
}

#[tokio::test]
async fn input_comes_as_a_stream_too() {
    let agent = Agent::start().await;
    let process = agent.spawn(with_input("cat")).await;
    let event = |event| StreamInputRequest { event: Some(event) };
    let data = |text: &'static str| {
        let input = ProcessInput { input: Some(Input::Stdin(Bytes::from_static(text.as_bytes()))) };
        event(InputEvent::Data(DataEvent { input: input.into() }))
    };
    let start = event(InputEvent::Start(StartEvent { process: selector(process.pid).into() }));
    for (messages, code) in [
        (vec![start.clone(), data("a"), data("b")], None),
        (vec![data("c")], Some(Code::InvalidArgument)),
    ] {
        let frames = messages.iter().map(|it| encode_message(Codec::Json, it).unwrap());
        let body: Vec<u8> = frames.flatten().collect();
        let headers = [("content-type", "application/connect+json")];
        let answer = agent.http("POST", "/process.Process/StreamInput", &headers, body).await;
        assert_eq!(answer.status, 200);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(text.contains("invalid_argument"), code.is_some(), "{text}");
    }
    close(&agent, process.pid).await.unwrap();
    assert_eq!(process.finish().await.text(), "ab");
}

#[tokio::test]
async fn no_input_is_the_null_device_and_refuses_bytes() {
    let agent = Agent::start().await;
    assert_eq!(agent.run("cat; readlink /proc/self/fd/0").await.text(), "/dev/null");
    let process = agent.spawn(command(&["sleep", "1000"])).await;
    assert_eq!(feed(&agent, process.pid, "x").await.unwrap_err().code, Code::FailedPrecondition);
    signal(&agent, process.pid, 9).await.unwrap();
}

#[tokio::test]
async fn a_list_has_what_runs_and_what_keeps_its_output() {
    let agent = Agent::start().await;
    let tagged = StartRequest { tag: Some("mine".to_owned()), ..command(&["sleep", "1000"]) };
    let running = agent.spawn(tagged).await;
    agent.run("true").await;
    let kept = StartRequest { spool: true, exec_id: Some("ex-1".to_owned()), ..shell("exit 4") };
    agent.spawn(kept).await.finish().await;
    let processes = list(&agent).await.processes;
    let [first, second] = &processes[..] else { panic!("{processes:?}") };
    assert_eq!((first.pid, first.tag.as_deref()), (running.pid, Some("mine")));
    assert_eq!(first.config.args, ["1000"]);
    assert!(first.end.is_unset());
    assert_eq!((second.exec_id.as_deref(), second.end.exit_code), (Some("ex-1"), 4));
    let by_tag = json!({"process": {"tag": "mine"}, "signal": "SIGNAL_SIGKILL"});
    assert_eq!(agent.json("process.Process/SendSignal", &by_tag).await.unwrap(), json!({}));
    running.finish().await;
    assert_eq!(list(&agent).await.processes.len(), 1);
}

#[tokio::test]
async fn a_process_has_its_own_session_three_descriptors_and_no_inherited_signals() {
    let agent = Agent::start().await;
    let script = "cut -d' ' -f1,6 /proc/$$/stat; ls /proc/$$/fd | tr '\\n' ' '; grep -E 'Sig(Blk|Ign)' /proc/$$/status | cut -f2 | tr '\\n' ' '";
    let done = agent.run(script).await;
    let lines: Vec<_> = done.text().lines().collect();
    let (pid, session) = lines[0].split_once(' ').unwrap();
    assert_eq!(pid, session);
    assert_eq!(lines[1].trim(), "0 1 2 0000000000000000 0000000000000000");
}

#[tokio::test]
async fn silence_is_broken_as_often_as_the_caller_asks() {
    let agent = Agent::start().await;
    let headers = [("keepalive-ping-interval", "1")];
    let mut process = agent.spawn_with(&headers, command(&["sleep", "1000"])).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(process.next().await, Ok(Some(Event::Keepalive(_)))));
    }
    signal(&agent, process.pid, 9).await.unwrap();
    process.finish().await;
}

#[tokio::test]
async fn many_processes_at_once_all_end() {
    let agent = Agent::start().await;
    let mut running = Vec::new();
    for number in 0..50 {
        running.push((number, agent.spawn(shell(&format!("echo {number}; exit {number}"))).await));
    }
    for (number, process) in running {
        let done = process.finish().await;
        assert_eq!((done.text(), done.end.exit_code), (&*number.to_string(), number));
    }
}
