//! `warren forward`

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use futures::{StreamExt as _, future, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};
use warren_api::client::ListenerStream;

use super::Context;
use crate::{
    error::{CliError, Kind},
    session::Signals,
};

/// How many connections one forwarded port has at once.
const MOST: usize = 1024;

/// How long nothing is accepted after it has failed: a descriptor that is missing is missing in the
/// next moment too.
const EXHAUSTED: Duration = Duration::from_millis(500);

/// Connect ports of this machine with ports of a sandbox
///
/// `8080:3000` listens on port 8080 here and leads to port 3000 on the sandbox's loopback; `3000`
/// is short for `3000:3000`, and 0 here is any port that is free. With `-R 5432` the sandbox has a
/// port 5432 that leads to this machine's, for as long as this command runs: whatever runs in the
/// sandbox can then use what listens here. TCP alone. Ctrl-C ends it.
#[derive(clap::Args, Debug)]
pub(crate) struct ForwardArgs {
    /// The sandbox, by id or name
    sandbox: String,
    /// From a port here to one of the sandbox
    #[arg(value_name = "[HERE:]THERE")]
    ports: Vec<Pair>,
    /// From a port of the sandbox to one here, or to another machine as seen from here; may be
    /// repeated
    #[arg(long = "reverse", short = 'R', value_name = "THERE[:[HOST:]HERE]")]
    reverse: Vec<Reverse>,
    /// The address to listen on here
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

/// A port here and one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    here: u16,
    there: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (here, there) = text.split_once(':').unwrap_or((text, text));
        let (here, there) = (here.parse().ok(), there.parse().ok().filter(|port| *port > 0));
        let pair = here.zip(there).map(|(here, there)| Self { here, there });
        pair.ok_or_else(|| "expected `3000`, or `8080:3000` for port 3000 of the sandbox".into())
    }
}

/// A port there and where it leads here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reverse {
    there: u16,
    host: String,
    here: u16,
}

impl FromStr for Reverse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (there, to) = text.split_once(':').unwrap_or((text, text));
        let (host, here) = to.rsplit_once(':').unwrap_or(("127.0.0.1", to));
        let both = port(there).zip(port(here)).filter(|_| !host.is_empty());
        both.map(|(there, here)| Self { there, host: host.to_owned(), here })
            .ok_or_else(|| "expected `5432`, `5432:5433` or `5432:HOST:5433`".into())
    }
}

pub(crate) async fn forward(cx: &Context<'_>, args: ForwardArgs) -> Result<ExitCode, CliError> {
    if args.ports.is_empty() && args.reverse.is_empty() {
        let error = CliError::usage("there is nothing to forward: expected a port");
        return Err(error.hint("`warren forward SANDBOX 8080:3000`"));
    }
    let mut signals = Signals::watch()?;
    let sandbox = cx.client.get_sandbox(&args.sandbox).await?.id;
    let mut listening = Vec::new();
    for pair in &args.ports {
        listening.push((listen(SocketAddr::new(args.address, pair.here)).await?, pair.there));
    }
    let mut reversed = Vec::new();
    for reverse in &args.reverse {
        let stream = cx.client.listen_port(&sandbox, reverse.there).await?;
        reversed.push((stream, reverse));
    }
    // Whoever waits for the ports may go on now.
    for (listener, there) in &listening {
        let here = listener.local_addr().map_err(CliError::local("listen"))?;
        say(cx, &here.to_string(), &format!("{sandbox}:{there}"))?;
    }
    for (_, Reverse { there, host, here }) in &reversed {
        say(cx, &format!("{sandbox}:{there}"), &format!("{host}:{here}"))?;
    }
    let outward =
        listening.into_iter().map(|(listener, there)| lead_in(cx, listener, &sandbox, there));
    let inward = reversed.into_iter().map(|(stream, to)| lead_out(cx, stream, &sandbox, to));
    let all = future::try_join(future::try_join_all(outward), future::try_join_all(inward));
    tokio::select! {
        ended = all => ended.map(|_| ExitCode::SUCCESS),
        end = signals.end() => match end.kind {
            // That is how it is meant to end.
            Kind::Interrupted(2) => Ok(ExitCode::SUCCESS),
            _ => Err(end),
        },
    }
}

fn say(cx: &Context<'_>, from: &str, to: &str) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.line(&serde_json::json!({ "from": from, "to": to }).to_string());
    }
    cx.output.line(&format!("{from} -> {to}"))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| {
        let step = CliError::local("listen on the port")(error);
        step.hint(format!("{address} is taken or not this machine's; name another: 8080:3000"))
    })
}

/// Leads whoever connects here to a port of the sandbox, until the server is gone.
async fn lead_in(
    cx: &Context<'_>,
    listener: TcpListener,
    sandbox: &str,
    there: u16,
) -> Result<(), CliError> {
    let (mut listener, mut open) = (Patient::new(listener), FuturesUnordered::new());
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MOST => match accepted {
                Ok(near) => open.push(async move {
                    near.set_nodelay(true).ok();
                    match cx.client.connect_port(sandbox, there).await {
                        Ok(far) => copy(near, far).await,
                        Err(error) => cx.output.warn(&error.to_string()),
                    }
                }),
                Err(error) => cx.output.warn(&format!("a connection was not accepted: {error}")),
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

/// A listener that rests after a failure, while the connections that are open go on.
struct Patient {
    listener: TcpListener,
    not_before: Instant,
}

impl Patient {
    fn new(listener: TcpListener) -> Self {
        Self { listener, not_before: Instant::now() }
    }

    async fn accept(&mut self) -> io::Result<TcpStream> {
        sleep_until(self.not_before).await;
        let accepted = self.listener.accept().await;
        if accepted.is_err() {
            self.not_before = Instant::now() + EXHAUSTED;
        }
        accepted.map(|(stream, _peer)| stream)
    }
}

/// Leads whoever connects to a port of the sandbox to one here, until the sandbox ends.
async fn lead_out(
    cx: &Context<'_>,
    mut arriving: ListenerStream,
    sandbox: &str,
    Reverse { there, host, here }: &Reverse,
) -> Result<(), CliError> {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            came = arriving.next(), if open.len() < MOST => {
                let Some(connection) = came? else { return Ok(()) };
                open.push(async move {
                    let far = cx.client.take_connection(sandbox, *there, connection).await;
                    let near = TcpStream::connect((host.as_str(), *here)).await;
                    match (far, near) {
                        (Ok(far), Ok(near)) => {
                            near.set_nodelay(true).ok();
                            copy(near, far).await;
                        }
                        (Err(error), _) => cx.output.warn(&error.to_string()),
                        (_, Err(error)) => cx.output.warn(&format!("{host}:{here}: {error}")),
                    }
                });
            }
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

/// Copies both ways; each may end by itself.
async fn copy(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) {
    // Whoever breaks the connection knows; the other side sees its end.
    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        let check = |text: &str, expected: Option<(u16, u16)>| {
            let pair = text.parse::<Pair>().ok();
            assert_eq!(pair.map(|pair| (pair.here, pair.there)), expected, "{text}");
        };
        check("3000", Some((3000, 3000)));
        check("8080:3000", Some((8080, 3000)));
        check("0:3000", Some((0, 3000)));
        for bad in ["", "0", "3000:", ":3000", "3000:0", "70000", "a:b"] {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_repeated_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        let (mut listener, start) = (Patient::new(listener), Instant::now());
        listener.accept().await.unwrap_err();
        assert!(start.elapsed() < EXHAUSTED);
        listener.accept().await.unwrap_err();
        assert!(start.elapsed() >= EXHAUSTED);
    }

    #[test]
    fn the_way_back_is_read_too() {
        let check = |text: &str, expected: Option<(u16, &str, u16)>| {
            let read = text.parse::<Reverse>().ok();
            let parts = read.as_ref().map(|it| (it.there, it.host.as_str(), it.here));
            assert_eq!(parts, expected, "{text}");
        };
        check("5432", Some((5432, "127.0.0.1", 5432)));
        check("5432:5433", Some((5432, "127.0.0.1", 5433)));
        check("5432:db.example:5433", Some((5432, "db.example", 5433)));
        check("5432:::1:5433", Some((5432, "::1", 5433)));
        for bad in ["", "0", "1:0", "1::2", "a"] {
            check(bad, None);
        }
    }
}
