//! The way to a remote.

use std::sync::Arc;

use http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};

use super::{
    Admitted, CONNECT, GitPassport, SILENCE,
    answer::{Answer, Refusal, passed_on},
    push::Body,
};
use crate::{
    name::HostName,
    outside,
    trust::{Trust, Versions},
};

/// A connection to a remote, and the task that drives it.
pub(super) struct Remote {
    sender: SendRequest<Body>,
    connection: JoinSet<()>,
}

/// Connects to a remote, by the addresses that the client may reach.
pub(super) async fn connect(
    authority: &str,
    admitted: &Admitted,
    passport: &dyn GitPassport,
    trust: &Arc<Trust>,
) -> Result<Remote, Refusal> {
    let (host, port) = place(authority, admitted.https)?;
    let stream = open(&host, port, admitted, passport).await?;
    if !admitted.https {
        return speak(stream).await;
    }
    let name = HostName::parse(&host);
    let name = name.ok_or_else(|| Refusal::failed("TLS needs a name of a host, not an address"))?;
    let versions = Versions { h2: false, http1: true };
    let (stream, _) = outside::tls(stream, &name, trust, versions, CONNECT)
        .await
        .map_err(|error| Refusal::failed(sentence(&error)))?;
    speak(stream).await
}

/// Sends a request and gives the beginning of its answer.
pub(super) async fn exchange(remote: Remote, request: Request<Body>) -> Result<Answer, Refusal> {
    let Remote { mut sender, connection } = remote;
    let (mut head, body) = request.into_parts();
    warren_http::declare_length(&mut head.headers, &body);
    let request = Request::from_parts(head, body);
    let answered = timeout(SILENCE, sender.send_request(request)).await;
    let late = |_elapsed| Refusal::failed("the remote does not answer");
    let answered = answered.map_err(late)?;
    let broken = |_error| Refusal::failed("the remote ended the connection without an answer");
    passed_on(answered.map_err(broken)?, connection)
}

fn place(authority: &str, https: bool) -> Result<(String, u16), Refusal> {
    let usual = if https { 443 } else { 80 };
    match authority.rsplit_once(':') {
        None => Ok((authority.to_owned(), usual)),
        Some((host, port)) => {
            let port = port.parse().map_err(|_odd| Refusal::failed("the remote's port is none"))?;
            Ok((host.to_owned(), port))
        }
    }
}

async fn open(
    host: &str,
    port: u16,
    admitted: &Admitted,
    passport: &dyn GitPassport,
) -> Result<TcpStream, Refusal> {
    let found = timeout(CONNECT, lookup_host((host, port))).await;
    let unknown = || Refusal::failed(format!("the host {host} is not known"));
    let found = found.map_err(|_elapsed| unknown())?.map_err(|_error| unknown())?;
    let mut failed = unknown();
    for address in found {
        let ip = address.ip().to_canonical();
        if !admitted.anywhere && !outside::may_reach(ip, passport.reach(ip)) {
            failed = Refusal::failed(format!("no sandbox may reach {host} at {ip}"));
            continue;
        }
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Slower without, and no reason to fail.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Ok(Err(error)) => failed = Refusal::failed(format!("{host} is not reached: {error}")),
            Err(_elapsed) => failed = Refusal::failed(format!("{host} does not answer")),
        }
    }
    Err(failed)
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Remote, Refusal> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let broken = |_error| Refusal::failed("the remote does not speak HTTP");
    let (sender, driver) = shaken.map_err(broken)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // Its end is seen where the answer is read.
        drop(driver.await);
    });
    Ok(Remote { sender, connection })
}

/// An error and its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
