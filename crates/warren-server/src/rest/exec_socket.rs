//! A command as a conversation over a WebSocket.
//!
//! Three things go on at once and none waits for another: what the command does goes out, what it
//! reads goes in at its own speed, and control messages act even while it does not read.

use std::time::Duration;

use axum::{
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warren_api::{Code, exec as api};
use warren_core::{
    Caller, SandboxError,
    exec::{Exec, ExecEvent, ExecInput, OutputStream, TerminalSize},
};

use super::{
    exec::{next, signal},
    lines::line,
};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{SandboxPath, json},
    metrics::OpenStream,
};

/// How many messages for standard input may wait for a command that does not read.
const WAITING: usize = 8;

/// How long a client may take to send its request: until then it holds a stream and gives nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command reads, in order; none for its end.
type Input = Option<Bytes>;

/// Run a command and converse with it
///
/// The first message is the request; then binary messages are standard input, and text messages
/// resize, signal or end the input.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/ws", tag = "exec", params(SandboxPath),
    responses((status = 101, description = "A WebSocket")),
    extensions(("x-websocket" = json!({
        "first": "#/components/schemas/ExecRequest",
        "client": {"text": "#/components/schemas/ExecInput", "binary": "bytes for standard input"},
        "server": {
            "text": "#/components/schemas/ExecEvent",
            "binary": "output: one byte for the stream (1 standard output, 2 standard error, 3 terminal), then the bytes",
        },
    }))),
)]
pub(crate) async fn converse_exec(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| ApiError::invalid("upgrade", error.body_text()))?;
    // An unknown sandbox is better said in HTTP than in the conversation.
    let slot = app.open_stream(&caller, &id)?;
    let open = (slot, app.busy(), OpenStream::new(&app));
    let most = app.command_bytes();
    let upgrade = upgrade.max_message_size(most).max_frame_size(most);
    Ok(upgrade.on_upgrade(move |socket| async move {
        converse(app, caller, id, socket).await;
        drop(open);
    }))
}

async fn converse(app: App, caller: Caller, id: String, mut socket: WebSocket) {
    let Some(exec) = open(&app, &caller, &id, &mut socket).await else { return };
    let input = exec.input();
    let (sender, receiver) = socket.split();
    let (feed, fed) = mpsc::channel(WAITING);
    let outward = send_events(app.ending(&caller), exec, sender);
    let inward = async {
        let (written, ()) = futures::join!(write_input(&input, fed), read(&input, receiver, feed));
        written
    };
    tokio::select! {
        // The command ended, or the client is gone.
        () = outward => {}
        // The client left: the command goes on, its output is kept for whoever comes back.
        () = inward => {}
    }
}

/// Reads the request and starts its command; tells the client why not.
async fn open(app: &App, caller: &Caller, id: &str, socket: &mut WebSocket) -> Option<Exec> {
    let ending = app.ending(caller);
    let request = tokio::select! {
        biased;
        () = ending.cancelled() => Err(SandboxError::ShuttingDown.into()),
        request = tokio::time::timeout(PATIENCE, request(socket)) => match request {
            Ok(request) => request?,
            Err(_elapsed) => {
                let message = format!("the request did not come within {} s", PATIENCE.as_secs());
                Err(ApiError::new(Code::DeadlineExceeded, message))
            }
        },
    };
    let started = match request {
        Ok(request) => {
            let command = convert::command(request);
            let started = app.sandboxes.exec(caller, id, &command).await;
            started.inspect(|_| app.metrics().exec_started()).map_err(ApiError::from)
        }
        Err(error) => Err(error),
    };
    match started {
        Ok(exec) => {
            let start = api::ExecEvent::Start(convert::exec_started(&exec));
            socket.send(text(&start)).await.ok()?;
            Some(exec)
        }
        Err(error) => {
            let error = api::ExecEvent::Error(error.into_body());
            // A client that left already hears nothing.
            socket.send(text(&error)).await.ok()?;
            socket.send(Message::Close(None)).await.ok()?;
            None
        }
    }
}

/// Waits for the first message; none when the client leaves before it.
async fn request(socket: &mut WebSocket) -> Option<Result<api::ExecRequest, ApiError>> {
    loop {
        match socket.recv().await {
            Some(Ok(Message::Text(text))) => return Some(json(text.as_bytes())),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => {
                return Some(Err(ApiError::invalid("first message", "expected the request")));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        }
    }
}

/// Sends what the command does, to its end.
async fn send_events(
    ending: CancellationToken,
    mut exec: Exec,
    mut sender: SplitSink<WebSocket, Message>,
) {
    loop {
        let message = match next(&mut exec, &ending).await {
            Ok(Some(ExecEvent::Output { stream, bytes, .. })) => output(stream, &bytes),
            Ok(Some(ExecEvent::Keepalive)) => text(&api::ExecEvent::Keepalive),
            Ok(Some(ExecEvent::End(end))) => {
                return finish(&mut sender, &api::ExecEvent::End(convert::exec_end(&end))).await;
            }
            Ok(None) => return,
            Err(error) => {
                let error = api::ExecEvent::Error(ApiError::from(error).into_body());
                return finish(&mut sender, &error).await;
            }
        };
        if sender.send(message).await.is_err() {
            return;
        }
    }
}

async fn finish(sender: &mut SplitSink<WebSocket, Message>, last: &api::ExecEvent) {
    // A client that left hears nothing.
    if sender.send(text(last)).await.is_ok() {
        sender.send(Message::Close(None)).await.ok();
    }
}

/// Reads what the client sends until it leaves.
async fn read(input: &ExecInput, mut receiver: SplitStream<WebSocket>, feed: mpsc::Sender<Input>) {
    while let Some(Ok(message)) = receiver.next().await {
        let done = match message {
            Message::Binary(bytes) => feed.send(Some(bytes)).await.is_ok(),
            Message::Text(text) => control(input, text.as_bytes(), &feed).await,
            Message::Ping(_) | Message::Pong(_) => true,
            Message::Close(_) => false,
        };
        if !done {
            return;
        }
    }
}

/// Acts on a control message. What cannot be understood ends the conversation; what the command
/// refuses is not worth ending it.
async fn control(input: &ExecInput, text: &[u8], feed: &mpsc::Sender<Input>) -> bool {
    let refused = match json(text) {
        Ok(api::ExecInput::Resize { cols, rows }) => {
            input.resize(TerminalSize { cols, rows }).await.err()
        }
        Ok(api::ExecInput::Signal { signal: name }) => match signal(&name) {
            Ok(signal) => input.signal(signal).await.err(),
            Err(_unknown) => return false,
        },
        Ok(api::ExecInput::StdinClose) => return feed.send(None).await.is_ok(),
        Err(_unreadable) => return false,
    };
    if let Some(error) = refused {
        tracing::debug!(%error, "a control message had no effect");
    }
    true
}

/// Writes what the command reads, at its speed; runs until the client has left.
async fn write_input(input: &ExecInput, mut fed: mpsc::Receiver<Input>) {
    let mut open = true;
    while let Some(piece) = fed.recv().await {
        if !open {
            continue;
        }
        let written = match piece {
            Some(bytes) => input.write(bytes).await,
            None => {
                open = false;
                input.close_stdin().await
            }
        };
        if let Err(error) = written {
            // It reads no more: what else comes for it is dropped.
            tracing::debug!(%error, "standard input ends here");
            open = false;
        }
    }
}

fn text(event: &api::ExecEvent) -> Message {
    let json = line(event);
    let json = json.strip_suffix(b"\n").unwrap_or(&json);
    Message::text(String::from_utf8_lossy(json).into_owned())
}

fn output(stream: OutputStream, bytes: &[u8]) -> Message {
    let kind = match stream {
        OutputStream::Stdout => api::OutputStream::Stdout,
        OutputStream::Stderr => api::OutputStream::Stderr,
        OutputStream::Terminal => api::OutputStream::Tty,
    };
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(kind as u8);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}
