//! The methods of `process.Process`.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use warren_proto::process::stream_input_request::Event as InputEvent;
use warren_proto::process::{
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest,
    ListResponse, SendInputRequest, SendInputResponse, SendSignalRequest, SendSignalResponse,
    StartRequest, StartResponse, StreamInputRequest, StreamInputResponse, UpdateRequest,
    UpdateResponse,
};
use warren_proto::{Code, Status};

use super::start::{self, size_of};
use super::{EventStream, Process, tree};
use crate::daemon::Agent;
use crate::daemon::countdown::Countdown;
use crate::http::rpc::{Call, Requests};

/// Starts a process; see the protocol for what its stream holds.
///
/// The caller's `connect-timeout-ms` is the process's own deadline: its tree is killed then, also
/// when the caller has long gone. A caller that goes before kills nothing.
pub(crate) async fn start(
    call: Call,
    request: StartRequest,
) -> Result<EventStream<StartResponse>, Status> {
    let agent = &call.agent;
    let kill_after = match request.kill_tree_on_timeout {
        0 => None,
        milliseconds => Some(Duration::from_millis(milliseconds)),
    };
    let offset = request.spool.then_some(0);
    // Not dropped with the request: a process that exists must get its record.
    let process = {
        let (agent, user) = (Arc::clone(agent), call.user.clone());
        let started = tokio::runtime::Handle::current()
            .spawn(async move { start::start(&agent, user, request).await });
        started.await.map_err(|it| Status::new(Code::Internal, it.to_string()))??
    };
    if let Some(time) = kill_after {
        agent.tasks.spawn(kill_at_deadline(Arc::clone(agent), Arc::clone(&process), time, None));
    }
    let deadline = call.timeout.map(|time| {
        let (sender, receiver) = oneshot::channel();
        let (agent, process) = (Arc::clone(agent), Arc::clone(&process));
        call.agent.tasks.spawn(kill_at_deadline(agent, process, time, Some(sender)));
        receiver
    });
    let subscription = process.subscribe(offset);
    Ok(EventStream::new(&process, subscription, call.silence, deadline))
}

/// Kills the tree when the time is over, unless the process and its output have ended before.
async fn kill_at_deadline(
    agent: Arc<Agent>,
    process: Arc<Process>,
    time: Duration,
    stream: Option<oneshot::Sender<()>>,
) {
    tokio::select! {
        () = Countdown::new(time) => {}
        () = process.wait_end() => return,
    }
    process.set_timed_out();
    if let Some(stream) = stream {
        let _gone = stream.send(());
    }
    tree::kill(&agent, &process).await;
}

/// Ends a stream that is still there when the time is over.
async fn end_stream_at_deadline(mut stream: oneshot::Sender<()>, time: Duration) {
    tokio::select! {
        () = Countdown::new(time) => drop(stream.send(())),
        () = stream.closed() => {}
    }
}

/// Attaches to a process.
pub(crate) async fn connect(
    call: Call,
    request: ConnectRequest,
) -> Result<EventStream<ConnectResponse>, Status> {
    let process = call.agent.processes.find(request.process.as_option())?;
    let deadline = call.timeout.map(|time| {
        let (sender, receiver) = oneshot::channel();
        call.agent.tasks.spawn(end_stream_at_deadline(sender, time));
        receiver
    });
    let subscription = process.subscribe(request.offset);
    Ok(EventStream::new(&process, subscription, call.silence, deadline))
}

/// Lists what runs, and what has ended but keeps its output.
pub(crate) async fn list(call: Call, _request: ListRequest) -> Result<ListResponse, Status> {
    let processes = call.agent.processes.listed().iter().map(|it| it.info()).collect();
    Ok(ListResponse { processes })
}

/// Resizes a terminal.
pub(crate) async fn update(call: Call, request: UpdateRequest) -> Result<UpdateResponse, Status> {
    let process = call.agent.processes.find(request.process.as_option())?;
    if let Some(pty) = request.pty.as_option() {
        let (columns, rows) = size_of(pty)
            .ok_or_else(|| Status::new(Code::InvalidArgument, "a terminal of no size"))?;
        let terminal = process
            .terminal()
            .ok_or_else(|| Status::new(Code::FailedPrecondition, "the process has no terminal"))?;
        warren_sys::pty::resize_terminal(terminal.get_ref(), columns, rows)
            .map_err(|error| Status::new(Code::Internal, format!("resize: {error}")))?;
    }
    Ok(UpdateResponse {})
}

/// Writes one chunk of input.
pub(crate) async fn send_input(
    call: Call,
    request: SendInputRequest,
) -> Result<SendInputResponse, Status> {
    let process = call.agent.processes.find(request.process.as_option())?;
    process.input().write(request.input.into_option().unwrap_or_default()).await?;
    Ok(SendInputResponse {})
}

/// Writes a stream of chunks of input.
pub(crate) async fn stream_input(
    call: Call,
    mut requests: Requests<StreamInputRequest>,
) -> Result<StreamInputResponse, Status> {
    let mut process: Option<Arc<Process>> = None;
    while let Some(request) = requests.next().await? {
        match (request.event, &process) {
            (Some(InputEvent::Start(start)), _) => {
                process = Some(call.agent.processes.find(start.process.as_option())?);
            }
            (Some(InputEvent::Data(data)), Some(process)) => {
                process.input().write(data.input.into_option().unwrap_or_default()).await?;
            }
            (Some(InputEvent::Data(_)), None) => {
                return Err(Status::new(Code::InvalidArgument, "data before start"));
            }
            (Some(InputEvent::Keepalive(_)) | None, _) => {}
        }
    }
    Ok(StreamInputResponse {})
}

/// Signals a process, or its tree.
pub(crate) async fn send_signal(
    call: Call,
    request: SendSignalRequest,
) -> Result<SendSignalResponse, Status> {
    let process = call.agent.processes.find(request.process.as_option())?;
    let number = request.signal.to_i32();
    let signal = Signal::from_named_raw(number).ok_or_else(|| {
        Status::new(Code::InvalidArgument, format!("no signal has the number {number}"))
    })?;
    let ends = matches!(signal, Signal::TERM | Signal::KILL);
    match (request.tree, signal) {
        (true, Signal::KILL) => tree::kill(&call.agent, &process).await,
        (true, _) => {
            if tree::signal(&call.agent, &process, signal).await? == 0 {
                return Err(Status::new(Code::NotFound, "the process has ended"));
            }
        }
        (false, _) => process.signal(signal)?,
    }
    if ends {
        process.cut_output();
    }
    Ok(SendSignalResponse {})
}

/// Closes a process's input.
pub(crate) async fn close_stdin(
    call: Call,
    request: CloseStdinRequest,
) -> Result<CloseStdinResponse, Status> {
    let process = call.agent.processes.find(request.process.as_option())?;
    process.input().close().await?;
    Ok(CloseStdinResponse {})
}
