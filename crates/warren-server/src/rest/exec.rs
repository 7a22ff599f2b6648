//! Commands: three ways of asking. The conversation is in `exec_socket`.

use std::convert::Infallible;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use warren_api::exec as api;
use warren_core::{
    SandboxError,
    exec::{Exec, ExecEvent, OutputStream, Signal},
};

use super::lines::{self, SILENCE, line};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, CommandBody, ExecPath, Parameters, SandboxPath},
};

/// How much of each output a request that waits gets back.
const KEPT_BYTES: usize = 2 << 20;

/// Run a command
///
/// `Accept: application/x-ndjson` streams what it does, line by line. Anything else waits for its
/// end; with `detach` the answer is 202 as soon as it runs.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec", tag = "exec", params(SandboxPath),
    request_body = api::ExecRequest,
    responses(
        (status = 200, description = "It ended; or, as lines, what it does: one `ExecEvent` each",
            content((api::ExecOutcome = "application/json"), (api::ExecEvent = "application/x-ndjson"))),
        (status = 202, description = "It runs, and was not waited for", body = api::ExecStarted),
    ),
)]
pub(crate) async fn start_exec(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    headers: HeaderMap,
    CommandBody(request): CommandBody<api::ExecRequest>,
) -> Result<Response, ApiError> {
    if request.stdin && request.stdin_data.is_none() {
        return Err(ApiError::invalid("stdin", "stays open only over the WebSocket"));
    }
    let detach = request.detach;
    let command = convert::command(api::ExecRequest { stdin: false, ..request });
    if detach {
        let (exec_id, pid) = app.sandboxes.exec_detached(&caller, &id, &command).await?;
        app.metrics().exec_started();
        let started = api::ExecStarted { exec_id: exec_id.to_string(), pid };
        return Ok((StatusCode::ACCEPTED, Json(started)).into_response());
    }
    let slot = app.open_stream(&caller, &id)?;
    let mut exec = app.sandboxes.exec(&caller, &id, &command).await?;
    app.metrics().exec_started();
    if lines::wanted(&headers) {
        return Ok(lines::response(line_stream(exec, app.ending(&caller)), slot));
    }
    let ending = app.ending(&caller);
    let outcome = tokio::select! {
        outcome = exec.outcome(KEPT_BYTES) => outcome?,
        () = ending.cancelled() => return Err(SandboxError::ShuttingDown.into()),
    };
    Ok(Json(convert::exec_outcome(&exec, outcome)).into_response())
}

/// List the commands of a sandbox
///
/// Those that run, and those that ended and are still kept.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec", tag = "exec", params(SandboxPath),
    responses((status = 200, description = "Oldest first", body = api::ExecList)),
)]
pub(crate) async fn list_execs(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::ExecList>, ApiError> {
    let execs = app.sandboxes.execs(&caller, &id).await?;
    Ok(Json(api::ExecList { execs: execs.into_iter().map(convert::exec_info).collect() }))
}

/// Read the output of a command
///
/// What is kept of it from byte `offset` on, then what follows, as lines.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/exec/{exec_id}/output", tag = "exec",
    params(ExecPath, ("offset" = Option<u64>, Query, description = "How many bytes to leave out; 0 where absent")),
    responses((status = 200, description = "Lines: one `ExecEvent` each",
        body = api::ExecEvent, content_type = "application/x-ndjson")),
)]
pub(crate) async fn read_exec_output(
    State(app): State<App>,
    Known(caller): Known,
    path: ExecPath,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let offset = parameters.number("offset")?.unwrap_or_default();
    parameters.finish()?;
    let slot = app.open_stream(&caller, &path.sandbox)?;
    let exec = app.sandboxes.exec_output(&caller, &path.sandbox, path.exec, offset).await?;
    Ok(lines::response(line_stream(exec, app.ending(&caller)), slot))
}

/// Send a signal to a command
///
/// `KILL` reaches everything it started, every other signal the one process.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/exec/{exec_id}/signal", tag = "exec", params(ExecPath),
    request_body = api::SignalRequest,
    responses((status = 204, description = "It was sent")),
)]
pub(crate) async fn signal_exec(
    State(app): State<App>,
    Known(caller): Known,
    path: ExecPath,
    Body(request): Body<api::SignalRequest>,
) -> Result<StatusCode, ApiError> {
    let signal = signal(&request.signal)?;
    app.sandboxes.signal_exec(&caller, &path.sandbox, path.exec, signal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a signal's name or number.
pub(super) fn signal(text: &str) -> Result<Signal, ApiError> {
    Signal::parse(text)
        .ok_or_else(|| ApiError::invalid("signal", "expected a name such as TERM, or 1 to 64"))
}

fn line_stream(
    exec: Exec,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let start = line(&api::ExecEvent::Start(convert::exec_started(&exec)));
    // None once the last line was given.
    let rest = stream::unfold(Some((exec, stopping)), |state| async move {
        let (mut exec, stopping) = state?;
        let event = next(&mut exec, &stopping).await;
        let text = match &event {
            Ok(Some(event)) => event_line(event),
            Ok(None) => return None,
            Err(_) => Bytes::new(),
        };
        match event {
            Err(error) => {
                let error = ApiError::from(error).into_body();
                Some((line(&api::ExecEvent::Error(error)), None))
            }
            Ok(Some(ExecEvent::End(_))) => Some((text, None)),
            Ok(_) => Some((text, Some((exec, stopping)))),
        }
    });
    stream::iter([start]).chain(rest).map(Ok)
}

/// The next event of a command, or a sign of life; an error once the server stops.
pub(super) async fn next(
    exec: &mut Exec,
    stopping: &CancellationToken,
) -> Result<Option<ExecEvent>, SandboxError> {
    tokio::select! {
        biased;
        event = exec.next() => event,
        () = stopping.cancelled() => Err(SandboxError::ShuttingDown),
        () = tokio::time::sleep(SILENCE) => Ok(Some(ExecEvent::Keepalive)),
    }
}

fn event_line(event: &ExecEvent) -> Bytes {
    match event {
        ExecEvent::Output { stream, bytes, offset } => output_line(*stream, bytes, *offset),
        ExecEvent::End(end) => line(&api::ExecEvent::End(convert::exec_end(end))),
        ExecEvent::Keepalive => line(&api::ExecEvent::Keepalive),
    }
}

/// The line of an output, written without a copy of its bytes on the way.
fn output_line(stream: OutputStream, bytes: &[u8], offset: u64) -> Bytes {
    let kind = match stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
        OutputStream::Terminal => "tty",
    };
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + 64);
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push_str("\",\"data\":\"");
    STANDARD.encode_string(bytes, &mut text);
    text.push_str("\",\"offset\":");
    text.push_str(&offset.to_string());
    text.push_str("}\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_output_is_what_the_api_says() {
        for (stream, event) in [
            (OutputStream::Stdout, api::ExecEvent::Stdout as fn(_) -> _),
            (OutputStream::Stderr, api::ExecEvent::Stderr),
            (OutputStream::Terminal, api::ExecEvent::Tty),
        ] {
            let bytes = [0, 255, b'"', b'\n'];
            let chunk = api::OutputChunk { data: bytes.to_vec().into(), offset: 7 };
            assert_eq!(output_line(stream, &bytes, 7), line(&event(chunk)));
        }
    }
}
