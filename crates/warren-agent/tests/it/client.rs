//! An agent for one test, and a client of it.

use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use warren_proto::envelope::{Decoder, Envelope, encode_message};
use warren_proto::process::process_event::data_event::Output;
use warren_proto::process::process_event::{EndEvent, Event};
use warren_proto::process::process_selector::Selector;
use warren_proto::process::{
    ConnectRequest, ConnectResponse, ProcessConfig, ProcessSelector, StartRequest, StartResponse,
};
use warren_proto::{Codec, Status, WireMessage};

/// More than any of these tests needs, less than anybody wants to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent and a folder for its test. Both end with it.
pub(crate) struct Agent {
    child: Child,
    folder: tempfile::TempDir,
}

/// An answer that has arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Agent {
    /// Starts one, whose processes begin in the test's folder.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_warren-agent"))
            .arg("serve")
            .arg("--envd")
            .arg(folder.path().join("envd.sock"))
            .arg("--control")
            .arg(folder.path().join("control.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let agent = Self { child, folder };
        std::fs::create_dir(agent.work()).unwrap();
        let init = json!({"defaultWorkdir": agent.work(), "env": {"FROM_INIT": "yes"}});
        assert_eq!(agent.control("POST", "/init", &init.to_string()).await.status, 204);
        agent
    }

    /// The folder that processes begin in.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.work().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn socket(&self, name: &str) -> UnixStream {
        UnixStream::connect(self.folder.path().join(name)).await.unwrap()
    }

    async fn connect(&self, name: &str) -> SendRequest<Full<Bytes>> {
        let io = TokioIo::new(self.socket(name).await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        drop(tokio::runtime::Handle::current().spawn(async move {
            drop(connection.with_upgrades().await);
        }));
        sender
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(
        &self,
        socket: &str,
        request: Request<Full<Bytes>>,
    ) -> Response<Incoming> {
        self.try_send(socket, request).await.unwrap()
    }

    /// The same for a request that the agent may hang up on.
    pub(crate) async fn try_send(
        &self,
        socket: &str,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.connect(socket).await;
        in_time("an answer", sender.send_request(request)).await
    }

    /// A request on the `envd` socket, with any headers.
    pub(crate) async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        whole(self.send("envd.sock", request(method, path, headers, body)).await).await
    }

    /// A request on the `control` socket.
    pub(crate) async fn control(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = request(method, path, &[], body.to_owned());
        whole(self.send("control.sock", request).await).await
    }

    /// A unary call in JSON, as E2B's SDKs make it.
    pub(crate) async fn json(&self, method: &str, body: &Value) -> Result<Value, Status> {
        let headers = [("content-type", "application/json"), ("connect-protocol-version", "1")];
        let answer = self.http("POST", &format!("/{method}"), &headers, body.to_string()).await;
        assert_eq!(answer.header("content-type"), "application/json");
        if answer.status == 200 {
            return Ok(answer.json());
        }
        let status = Status::from_unary_body(answer.status, &answer.body);
        assert_eq!(answer.status, status.code.http_status(), "{status}");
        Err(status)
    }

    /// A unary call in binary, as Warren's host makes it.
    pub(crate) async fn call<Req: WireMessage, Res: WireMessage>(
        &self,
        method: &str,
        message: &Req,
    ) -> Result<Res, Status> {
        let body = Codec::Proto.encode(message).unwrap();
        let headers = [("content-type", "application/proto")];
        let answer = self.http("POST", &format!("/{method}"), &headers, body).await;
        match answer.status {
            200 => Ok(Codec::Proto.decode(&answer.body).unwrap()),
            status => Err(Status::from_unary_body(status, &answer.body)),
        }
    }

    /// Opens a server stream.
    pub(crate) async fn stream<Req: WireMessage, Res: WireMessage>(
        &self,
        codec: Codec,
        method: &str,
        headers: &[(&str, &str)],
        message: &Req,
    ) -> Stream<Res> {
        let body = encode_message(codec, message).unwrap();
        let mut all = vec![("content-type", codec.stream_content_type())];
        all.extend_from_slice(headers);
        let request = request("POST", &format!("/{method}"), &all, body);
        let response = self.send("envd.sock", request).await;
        assert_eq!(response.status(), 200, "errors of streams come in the stream");
        assert_eq!(response.headers()["content-type"], codec.stream_content_type());
        Stream { body: response.into_body(), decoder: Decoder::default(), codec, kind: PhantomData }
    }

    /// Starts a process and reads its first event.
    pub(crate) async fn spawn(&self, request: StartRequest) -> Process {
        self.spawn_with(&[], request).await.unwrap()
    }

    pub(crate) async fn spawn_with(
        &self,
        headers: &[(&str, &str)],
        request: StartRequest,
    ) -> Result<Process, Status> {
        let method = "process.Process/Start";
        let events: Stream<StartResponse> =
            self.stream(Codec::Proto, method, headers, &request).await;
        Process::begin(events).await
    }

    /// Attaches to a process and reads the first event.
    pub(crate) async fn attach(&self, pid: u32, offset: Option<u64>) -> Result<Process, Status> {
        let request = ConnectRequest { process: selector(pid).into(), offset };
        let method = "process.Process/Connect";
        let events: Stream<ConnectResponse> =
            self.stream(Codec::Proto, method, &[], &request).await;
        Process::begin(events).await
    }

    /// Runs a shell script to its end.
    pub(crate) async fn run(&self, script: &str) -> Finished {
        self.spawn(shell(script)).await.finish().await
    }

    /// The most memory that the agent ever had, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        if !std::thread::panicking() {
            assert_eq!(status.code(), Some(0), "the agent ends well when it is told to");
        }
    }
}

/// Messages of a stream, one by one.
pub(crate) struct Stream<M> {
    body: Incoming,
    decoder: Decoder,
    codec: Codec,
    kind: PhantomData<M>,
}

impl<M: WireMessage> Stream<M> {
    /// The next message; `Ok(None)` when it ended well.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            match self.decoder.next().unwrap() {
                Some(Envelope::Message(bytes)) => {
                    return Ok(Some(self.codec.decode(&bytes).unwrap()));
                }
                Some(Envelope::End(bytes)) => {
                    return Status::from_end_of_stream(&bytes).map(|()| None);
                }
                None => {
                    let frame = in_time("a frame", self.body.frame()).await;
                    let frame = frame.expect("the end is told before the body ends").unwrap();
                    self.decoder.push(&frame.into_data().unwrap());
                }
            }
        }
    }
}

/// Either stream of a process's events.
pub(crate) trait ProcessResponse: WireMessage {
    fn event(self) -> Option<Event>;
}

impl ProcessResponse for StartResponse {
    fn event(self) -> Option<Event> {
        self.event.into_option().unwrap_or_default().event
    }
}

impl ProcessResponse for ConnectResponse {
    fn event(self) -> Option<Event> {
        self.event.into_option().unwrap_or_default().event
    }
}

/// A process, seen through its stream.
pub(crate) struct Process {
    pub(crate) pid: u32,
    stream: Stream<StartResponse>,
}

/// What a process did until its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) terminal: Vec<u8>,
    /// Offset of the first output.
    pub(crate) first: Option<u64>,
    pub(crate) end: EndEvent,
}

impl Finished {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap().trim_end()
    }
}

impl Process {
    async fn begin<R: ProcessResponse>(mut stream: Stream<R>) -> Result<Self, Status> {
        let first = stream.next().await?.and_then(R::event);
        let Some(Event::Start(start)) = first else { panic!("first event: {first:?}") };
        // Both kinds of messages are the same on the wire.
        let Stream { body, decoder, codec, .. } = stream;
        Ok(Self { pid: start.pid, stream: Stream { body, decoder, codec, kind: PhantomData } })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Status> {
        Ok(self.stream.next().await?.and_then(ProcessResponse::event))
    }

    /// Reads output until it has `wanted`.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            match self.next().await {
                Ok(Some(Event::Data(data))) => {
                    text += &String::from_utf8_lossy(bytes(&data.output))
                }
                other => panic!("{other:?} after {text:?}"),
            }
        }
        text
    }

    pub(crate) async fn finish(mut self) -> Finished {
        let (mut stdout, mut stderr, mut terminal, mut first) = (vec![], vec![], vec![], None);
        loop {
            match self.next().await {
                Ok(Some(Event::Data(data))) => {
                    first.get_or_insert(data.offset);
                    match &data.output {
                        Some(Output::Stdout(it)) => stdout.extend_from_slice(it),
                        Some(Output::Stderr(it)) => stderr.extend_from_slice(it),
                        Some(Output::Pty(it)) => terminal.extend_from_slice(it),
                        None => panic!("data without bytes"),
                    }
                }
                Ok(Some(Event::End(end))) => {
                    assert_eq!(self.next().await, Ok(None), "nothing comes after the end");
                    return Finished { stdout, stderr, terminal, first, end };
                }
                Ok(Some(Event::Keepalive(_))) => {}
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&stdout)),
            }
        }
    }

    /// Reads until the stream fails.
    pub(crate) async fn fail(mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    }
}

pub(crate) fn bytes(output: &Option<Output>) -> &[u8] {
    match output {
        Some(Output::Stdout(it) | Output::Stderr(it) | Output::Pty(it)) => it,
        None => &[],
    }
}

/// A shell script without input.
pub(crate) fn shell(script: &str) -> StartRequest {
    command(&["/bin/sh", "-c", script])
}

/// A command without input.
pub(crate) fn command(words: &[&str]) -> StartRequest {
    let [cmd, args @ ..] = words else { panic!("no command") };
    let process = ProcessConfig {
        cmd: (*cmd).to_owned(),
        args: args.iter().map(|it| (*it).to_owned()).collect(),
        ..ProcessConfig::default()
    };
    StartRequest { process: process.into(), stdin: Some(false), ..StartRequest::default() }
}

pub(crate) fn selector(pid: u32) -> ProcessSelector {
    ProcessSelector { selector: Some(Selector::Pid(pid)) }
}

pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "agent");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = in_time("a body", body.collect()).await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come in time"),
    }
}

/// Waits until something holds that nobody tells of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    in_time(what, async {
        while !holds() {
            tick.tick().await;
        }
    })
    .await;
}

/// Whether a process is there, zombies not counted.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|it| !it.1.trim_start().starts_with('Z'))
}
