//! What a template starts in a new sandbox, and how it is seen that it is ready.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::model::{Ready, Start};
use crate::{
    error::SandboxError,
    exec::{Command, Exec, ExecEnd, ExecEvent},
    logs,
    runtime::RuntimeError,
    sandbox::handle::Handle,
    shared::Shared,
};

/// How long between two looks at whether something is ready.
const BETWEEN: Duration = Duration::from_millis(50);
/// The longest that one look may take.
const LOOK: Duration = Duration::from_secs(10);
/// How much of what a start command wrote is told when it failed.
const TOLD_BYTES: usize = 1 << 10;

/// Starts what is to be started, and waits until it is ready. On an error the sandbox is as it is.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    start: &Start,
) -> Result<(), SandboxError> {
    let mut ended = None;
    if !start.command.is_empty() {
        let command = Command { argv: start.command.clone(), ..Command::default() };
        let exec = Exec::start(Arc::clone(handle), &command).await;
        let exec = exec.map_err(|error| match error {
            SandboxError::Guest { message, .. } => {
                SandboxError::NotReady { reason: format!("its start command: {message}") }
            }
            other => other,
        })?;
        let watched = Exec::reconnect(Arc::clone(handle), exec.id(), 0).await?;
        shared.store.tasks().spawn(logs::follow::follow(Arc::clone(shared), exec));
        ended = Some(watched);
    }
    let Some(ready) = &start.ready else { return Ok(()) };
    let waiting = async {
        match &mut ended {
            None => wait(shared, handle, ready).await,
            Some(exec) => tokio::select! {
                done = wait(shared, handle, ready) => done,
                end = fate(exec) => match end {
                    // A start command may leave its work in the background and end.
                    Ok((0, _)) => wait(shared, handle, ready).await,
                    Ok((code, told)) => Err(SandboxError::NotReady {
                        reason: format!("its start command ended with status {code}: {told}"),
                    }),
                    Err(error) => Err(error),
                },
            },
        }
    };
    match tokio::time::timeout(start.timeout, waiting).await {
        Ok(done) => done,
        Err(_elapsed) => {
            let (what, seconds) = (describe(ready), start.timeout.as_secs_f32());
            Err(SandboxError::NotReady { reason: format!("{what} within {seconds} seconds") })
        }
    }
}

/// How a start command ended, and the end of what it wrote.
async fn fate(exec: &mut Exec) -> Result<(i32, String), SandboxError> {
    let mut told = Vec::new();
    loop {
        match exec.next().await? {
            Some(ExecEvent::Output { bytes, .. }) => {
                told.extend_from_slice(&bytes);
                let over = told.len().saturating_sub(TOLD_BYTES);
                told.drain(..over);
            }
            Some(ExecEvent::End(ExecEnd { exit_code, .. })) => {
                let told = String::from_utf8_lossy(&told);
                return Ok((exit_code, told.trim().to_owned()));
            }
            Some(ExecEvent::Keepalive) => {}
            // Nothing more is known of it.
            None => std::future::pending::<()>().await,
        }
    }
}

async fn wait(shared: &Shared, handle: &Arc<Handle>, ready: &Ready) -> Result<(), SandboxError> {
    loop {
        let since = Instant::now();
        match tokio::time::timeout(LOOK, look(shared, handle, ready)).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
        tokio::time::sleep_until(since + BETWEEN).await;
    }
}

/// Whether it is ready now.
async fn look(shared: &Shared, handle: &Arc<Handle>, ready: &Ready) -> Result<bool, SandboxError> {
    match ready {
        Ready::Port(port) => listens(shared, handle, *port).await,
        Ready::Http { port, path } => {
            Ok(listens(shared, handle, *port).await? && answers(shared, handle, *port, path).await)
        }
        Ready::File(path) => Ok(handle.guest().stat(Some("root"), path).await.is_ok()),
        Ready::Command(command) => {
            let argv = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
            let env = BTreeMap::new();
            let command = Command { argv, env, timeout: Some(LOOK), ..Command::default() };
            let mut exec = Exec::start(Arc::clone(handle), &command).await?;
            Ok(exec.outcome(0).await?.end.exit_code == 0)
        }
    }
}

async fn listens(shared: &Shared, handle: &Handle, port: u16) -> Result<bool, SandboxError> {
    match shared.runtime.ports(&handle.id()).await {
        Ok(ports) => Ok(ports.iter().any(|it| it.number == port)),
        Err(RuntimeError::Unsupported { operation }) => {
            Err(SandboxError::Unsupported { operation })
        }
        Err(error) => Err(SandboxError::runtime("look for a port of the sandbox")(error)),
    }
}

/// Whether a GET is answered with a status that is no error.
async fn answers(shared: &Shared, handle: &Handle, port: u16, path: &str) -> bool {
    let asked = async {
        let stream = shared.runtime.dial(&handle.id(), port).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let request = Request::get(path).header(header::HOST, format!("localhost:{port}"));
        let request = request.body(Empty::<Bytes>::new()).ok()?;
        // The connection is driven only for as long as its answer is waited for.
        tokio::select! {
            answer = sender.send_request(request) => Some(answer.ok()?.status().as_u16() < 400),
            _ = connection => None,
        }
    };
    asked.await.unwrap_or(false)
}

fn describe(ready: &Ready) -> String {
    match ready {
        Ready::Port(port) => format!("nothing listened on port {port}"),
        Ready::Http { port, path } => format!("port {port} did not answer GET {path} well"),
        Ready::Command(_) => "its ready command did not end with 0".to_owned(),
        Ready::File(path) => format!("there was no file {path}"),
    }
}
