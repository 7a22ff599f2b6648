//! The agent of a fake guest: HTTP/1.1 on a pipe.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_proto::{
    Code, Codec, Status, WireMessage,
    envelope::{Decoder, Envelope},
    filesystem::{
        EntryInfo, EventType, FileType, FilesystemEvent, ListDirRequest, ListDirResponse,
        MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest, RemoveResponse,
        StatRequest, StatResponse, WatchDirRequest, WatchDirResponse, watch_dir_response,
    },
    process::{
        CloseStdinRequest, CloseStdinResponse, ConnectRequest, ListResponse, ProcessInfo,
        ProcessSelector, SendInputRequest, SendInputResponse, SendSignalRequest,
        SendSignalResponse, StartRequest, UpdateResponse,
        process_event::{DataEvent, Event, StartEvent, data_event::Output},
        process_input::Input,
        process_selector::Selector,
    },
};

use super::process::{Events, Process, close, ended, send, send_message, stream};
use crate::runtime::Service;

/// How many bytes a pipe to the agent holds.
const PIPE_BYTES: usize = 256 << 10;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The agent of one fake guest.
#[derive(Debug)]
pub struct FakeAgent {
    state: Mutex<State>,
    tasks: TaskTracker,
    gone: CancellationToken,
    /// It hangs up instead of answering its initialisation.
    mute: bool,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    initialised: Vec<serde_json::Value>,
    processes: BTreeMap<u32, Process>,
    files: HashMap<String, Bytes>,
    archives: HashMap<String, Bytes>,
    directories: Vec<String>,
    watchers: Vec<(String, Events)>,
    last_pid: u32,
}

impl FakeAgent {
    pub(super) fn new(tasks: TaskTracker, mute: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            tasks,
            gone: CancellationToken::new(),
            mute,
            connections: AtomicUsize::new(0),
        })
    }

    /// The bodies of its initialisations, in order.
    pub fn initialised(&self) -> Vec<serde_json::Value> {
        self.lock().initialised.clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Has the same files as another one.
    pub(super) fn take_files(&self, other: &Self) {
        let other = other.lock();
        let (files, directories) = (other.files.clone(), other.directories.clone());
        let archives = other.archives.clone();
        drop(other);
        let mut state = self.lock();
        state.files = files;
        state.directories = directories;
        state.archives = archives;
    }

    /// What was unpacked last at a path.
    pub fn archive(&self, path: &str) -> Option<String> {
        let archive = self.lock().archives.get(path).cloned()?;
        Some(String::from_utf8_lossy(&archive).trim_end_matches('\0').to_owned())
    }

    /// Whether there is no file inside.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().files.is_empty()
    }

    /// Puts a file inside, as a command of the guest does.
    pub fn put(&self, path: &str, content: &'static str) {
        self.lock().files.insert(path.to_owned(), Bytes::from_static(content.as_bytes()));
    }

    /// A file inside.
    pub fn file(&self, path: &str) -> Option<Bytes> {
        self.lock().files.get(path).cloned()
    }

    /// Closes all connections, as when the guest is killed.
    pub fn hang_up(&self) {
        self.gone.cancel();
    }

    pub(super) fn connect(self: &Arc<Self>, service: Service) -> Option<DuplexStream> {
        if self.gone.is_cancelled() {
            return None;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (host, guest) = tokio::io::duplex(PIPE_BYTES);
        let agent = Arc::clone(self);
        self.tasks.spawn(async move {
            let handler = Arc::clone(&agent);
            let service = service_fn(move |request| {
                let agent = Arc::clone(&handler);
                async move { agent.answer(service, request).await }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(guest), service);
            // A client that leaves is no failure here.
            agent.gone.run_until_cancelled(connection).await;
        });
        Some(host)
    }

    async fn answer(
        self: Arc<Self>,
        service: Service,
        request: Request<Incoming>,
    ) -> Result<Answer, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let path = head.uri.path();
        if service == Service::Control {
            if self.mute || path != "/init" {
                return Err(std::io::Error::other("hung up"));
            }
            let body = serde_json::from_slice(&body).map_err(std::io::Error::other)?;
            self.lock().initialised.push(body);
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        Ok(match path {
            "/files" => self.files(&head, body),
            "/archive" | "/glob" | "/chmod" => self.tree(&head, &body),
            "/filesystem.Filesystem/WatchDir" => self.watch(&body),
            "/process.Process/Start" => self.start(&body),
            "/process.Process/Connect" => self.reconnect(&body),
            _ => unary(self.call(path, &body)),
        })
    }

    fn call(&self, path: &str, body: &[u8]) -> Result<Bytes, Status> {
        match path {
            "/process.Process/List" => encode(&self.list()),
            "/process.Process/Update" => encode(&UpdateResponse {}),
            "/process.Process/SendInput" => {
                let request: SendInputRequest = decode(body)?;
                let bytes = match request.input.into_option().and_then(|input| input.input) {
                    Some(Input::Stdin(bytes) | Input::Pty(bytes)) => bytes,
                    None => return Err(Status::new(Code::InvalidArgument, "no input")),
                };
                self.with(&request.process, |process| process.read(&bytes))?;
                encode(&SendInputResponse {})
            }
            "/process.Process/CloseStdin" => {
                let request: CloseStdinRequest = decode(body)?;
                self.with(&request.process, |process| process.finish(0, 0))?;
                encode(&CloseStdinResponse {})
            }
            "/process.Process/SendSignal" => {
                let request: SendSignalRequest = decode(body)?;
                let signal = u32::try_from(request.signal.to_i32()).unwrap_or_default();
                self.with(&request.process, |process| process.finish(-1, signal))?;
                encode(&SendSignalResponse {})
            }
            _ => self.filesystem(path, body),
        }
    }

    fn filesystem(&self, path: &str, body: &[u8]) -> Result<Bytes, Status> {
        let mut state = self.lock();
        match path {
            "/filesystem.Filesystem/Stat" => {
                let request: StatRequest = decode(body)?;
                encode(&StatResponse { entry: state.entry(&request.path)?.into() })
            }
            "/filesystem.Filesystem/ListDir" => {
                let request: ListDirRequest = decode(body)?;
                let below = format!("{}/", request.path.trim_end_matches('/'));
                let mut paths: Vec<_> =
                    state.files.keys().filter(|path| path.starts_with(&below)).cloned().collect();
                paths.sort();
                let entries: Result<_, _> = paths.iter().map(|path| state.entry(path)).collect();
                encode(&ListDirResponse { entries: entries? })
            }
            "/filesystem.Filesystem/MakeDir" => {
                let request: MakeDirRequest = decode(body)?;
                if state.directories.contains(&request.path) {
                    return Err(Status::new(Code::AlreadyExists, "the directory exists"));
                }
                state.directories.push(request.path.clone());
                encode(&MakeDirResponse { entry: state.entry(&request.path)?.into() })
            }
            "/filesystem.Filesystem/Move" => {
                let request: MoveRequest = decode(body)?;
                let moved = state.files.remove(&request.source);
                let contents = moved.ok_or_else(|| missing(&request.source))?;
                state.files.insert(request.destination.clone(), contents);
                encode(&MoveResponse { entry: state.entry(&request.destination)?.into() })
            }
            "/filesystem.Filesystem/Remove" => {
                let request: RemoveRequest = decode(body)?;
                state.files.remove(&request.path);
                encode(&RemoveResponse {})
            }
            _ => Err(Status::new(Code::Unimplemented, "no such call")),
        }
    }

    fn start(&self, body: &[u8]) -> Answer {
        let request: StartRequest = match first_message(body).and_then(|bytes| decode(&bytes)) {
            Ok(request) => request,
            Err(status) => return ended(&status),
        };
        let mut state = self.lock();
        state.last_pid += 1;
        let pid = state.last_pid;
        let config = request.process.into_option().unwrap_or_default();
        let mut process = Process::new(request.exec_id.unwrap_or_default(), config);
        let (events, answer) = stream();
        send(&events, Event::Start(StartEvent { pid }));
        process.subscribers.push(events);
        let arguments = process.config.args.clone();
        if let Err(status) = process.begin(&arguments) {
            return ended(&status);
        }
        if process.config.cmd == "hang-up" {
            self.hang_up();
        }
        state.processes.insert(pid, process);
        answer
    }

    fn reconnect(&self, body: &[u8]) -> Answer {
        let request: ConnectRequest = match first_message(body).and_then(|bytes| decode(&bytes)) {
            Ok(request) => request,
            Err(status) => return ended(&status),
        };
        let mut state = self.lock();
        let Some((pid, process)) = state.find(&request.process) else {
            return ended(&Status::new(Code::NotFound, "no such process"));
        };
        let (events, answer) = stream();
        send(&events, Event::Start(StartEvent { pid }));
        let from = usize::try_from(request.offset.unwrap_or_default()).unwrap_or(usize::MAX);
        if let Some(kept) = process.output.get(from..).filter(|kept| !kept.is_empty()) {
            let output = Some(Output::Stdout(Bytes::copy_from_slice(kept)));
            send(&events, Event::Data(DataEvent { output, offset: from as u64 }));
        }
        match &process.end {
            Some(end) => {
                send(&events, Event::End(end.clone()));
                close(&events, None);
            }
            None => process.subscribers.push(events),
        }
        answer
    }

    fn list(&self) -> ListResponse {
        let info = |(pid, process): (&u32, &Process)| ProcessInfo {
            config: process.config.clone().into(),
            pid: *pid,
            exec_id: Some(process.exec_id.clone()),
            started_unix_ms: 1_700_000_000_000,
            end: process.end.clone().into(),
            ..ProcessInfo::default()
        };
        ListResponse { processes: self.lock().processes.iter().map(info).collect() }
    }

    fn files(&self, head: &hyper::http::request::Parts, body: Bytes) -> Answer {
        let path = parameter(head, "path=");
        if head.method == Method::POST {
            self.lock().write(&path, body);
            let name = path.rsplit('/').next().unwrap_or_default();
            let written = serde_json::json!([{"path": path, "name": name, "type": "file"}]);
            return full(StatusCode::OK, written.to_string().into());
        }
        let Some(contents) = self.file(&path) else {
            let refusal = serde_json::json!({"code": 404, "message": format!("path '{path}' does not exist")});
            return full(StatusCode::NOT_FOUND, refusal.to_string().into());
        };
        let size = contents.len();
        let range = head
            .headers
            .get(header::RANGE)
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'))
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let Some((first, last)): Option<(usize, usize)> = range else {
            return full(StatusCode::OK, contents);
        };
        let mut answer = full(
            StatusCode::PARTIAL_CONTENT,
            contents.slice(first.min(size)..(last + 1).min(size)),
        );
        if let Ok(value) = format!("bytes {first}-{last}/{size}").parse() {
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        answer
    }

    /// Archives are kept as they come, one for each directory, and patterns are ends of paths.
    fn tree(&self, head: &hyper::http::request::Parts, body: &Bytes) -> Answer {
        let path = parameter(head, "path=");
        let mut state = self.lock();
        match (&head.method, head.uri.path()) {
            (&Method::PUT, _) if !body.ends_with(&[0; 512]) => {
                let refusal = serde_json::json!({"code": 400, "message": "the archive is broken"});
                full(StatusCode::BAD_REQUEST, refusal.to_string().into())
            }
            (&Method::PUT, _) => {
                let done = serde_json::json!({"path": path, "entries": 1, "bytes": body.len(), "skipped": 0});
                state.directories.push(path.clone());
                state.archives.insert(path, body.clone());
                full(StatusCode::OK, done.to_string().into())
            }
            (_, "/archive") => match state.archives.get(&path) {
                Some(archive) => full(StatusCode::OK, archive.clone()),
                None => full(StatusCode::NOT_FOUND, r#"{"message":"no such directory"}"#.into()),
            },
            (_, "/glob") => {
                let end = parameter(head, "pattern=").replace('*', "");
                let mut paths: Vec<_> =
                    state.files.keys().filter(|it| it.ends_with(&end)).collect();
                paths.sort();
                let found = serde_json::json!({"paths": paths, "truncated": false});
                full(StatusCode::OK, found.to_string().into())
            }
            _ => {
                let order: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                match state.entry(order.get("path").and_then(|it| it.as_str()).unwrap_or_default())
                {
                    Ok(_) => empty(StatusCode::NO_CONTENT),
                    Err(status) => unary(Err(status)),
                }
            }
        }
    }

    /// Tells of every file that is written below a directory.
    fn watch(&self, body: &[u8]) -> Answer {
        let request: WatchDirRequest = match first_message(body).and_then(|bytes| decode(&bytes)) {
            Ok(request) => request,
            Err(status) => return ended(&status),
        };
        let (events, answer) = stream();
        let start = watch_dir_response::Event::Start(watch_dir_response::StartEvent {});
        send_message(&events, &WatchDirResponse { event: Some(start) });
        self.lock().watchers.push((request.path, events));
        answer
    }

    fn with(
        &self,
        selector: &ProcessSelector,
        change: impl FnOnce(&mut Process),
    ) -> Result<(), Status> {
        let mut state = self.lock();
        let found = state.find(selector).filter(|(_, process)| process.end.is_none());
        let (_, process) = found.ok_or_else(|| Status::new(Code::NotFound, "no such process"))?;
        change(process);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, selector: &ProcessSelector) -> Option<(u32, &mut Process)> {
        let Some(Selector::ExecId(id)) = &selector.selector else { return None };
        let found = self.processes.iter_mut().find(|(_, process)| process.exec_id == *id)?;
        Some((*found.0, found.1))
    }

    fn write(&mut self, path: &str, contents: Bytes) {
        self.files.insert(path.to_owned(), contents);
        for (directory, events) in &self.watchers {
            let Some(name) = path.strip_prefix(directory) else { continue };
            let event = FilesystemEvent {
                name: name.trim_start_matches('/').to_owned(),
                r#type: EventType::Write.into(),
                ..FilesystemEvent::default()
            };
            let event = Some(watch_dir_response::Event::Filesystem(event));
            send_message(events, &WatchDirResponse { event });
        }
    }

    fn entry(&self, path: &str) -> Result<EntryInfo, Status> {
        let (kind, size) = match self.files.get(path) {
            Some(contents) => (FileType::File, contents.len()),
            None if self.directories.iter().any(|known| known == path) => (FileType::Directory, 0),
            None => return Err(missing(path)),
        };
        Ok(EntryInfo {
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            r#type: kind.into(),
            path: path.to_owned(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mode: 0o644,
            owner: "user".to_owned(),
            group: "user".to_owned(),
            ..EntryInfo::default()
        })
    }
}

fn unary(result: Result<Bytes, Status>) -> Answer {
    match result {
        Ok(bytes) => full(StatusCode::OK, bytes),
        Err(status) => {
            let code = StatusCode::from_u16(status.code.http_status()).unwrap_or_default();
            full(code, status.to_unary_body().into())
        }
    }
}

fn empty(status: StatusCode) -> Answer {
    full(status, Bytes::new())
}

fn full(status: StatusCode, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

fn encode<M: WireMessage>(message: &M) -> Result<Bytes, Status> {
    Codec::Proto.encode(message).map_err(|error| Status::new(Code::Internal, error.to_string()))
}

fn decode<M: WireMessage>(bytes: &[u8]) -> Result<M, Status> {
    let refused =
        |error: warren_proto::CodecError| Status::new(Code::InvalidArgument, error.to_string());
    Codec::Proto.decode(bytes).map_err(refused)
}

fn first_message(body: &[u8]) -> Result<Bytes, Status> {
    let mut decoder = Decoder::default();
    decoder.push(body);
    match decoder.next() {
        Ok(Some(Envelope::Message(bytes))) => Ok(bytes),
        _ => Err(Status::new(Code::InvalidArgument, "no message")),
    }
}

fn parameter(head: &hyper::http::request::Parts, name: &str) -> String {
    let query = head.uri.query().unwrap_or_default();
    query.split('&').find_map(|pair| pair.strip_prefix(name)).map(unescape).unwrap_or_default()
}

fn missing(path: &str) -> Status {
    Status::new(Code::NotFound, format!("path '{path}' does not exist"))
}

fn unescape(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digits = [rest.clone().next(), rest.clone().nth(1)];
        match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                let text = [high, low];
                let text = std::str::from_utf8(&text).unwrap_or_default();
                bytes.push(u8::from_str_radix(text, 16).unwrap_or_default());
                rest.nth(1);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
