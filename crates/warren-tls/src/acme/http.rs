//! The listener for HTTP-01: challenges, and the way to TLS for everything else.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_http::Crowd;

use super::Answers;
use crate::local::is_domain;

/// Where authorities look.
const PATH: &str = "/.well-known/acme-challenge/";
/// How many connections there may be.
const CONNECTIONS: u32 = 256;
/// How many of one neighbourhood: authorities look from several.
const OF_ONE: u32 = 16;
/// How long a connection may take for its one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when there are too many open files.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Answers authorities on a listener, and tells everybody else to come over TLS at `port`, until
/// `stop`. Each connection has one short request.
pub async fn serve(listener: TcpListener, answers: Answers, port: u16, stop: CancellationToken) {
    let (tasks, crowd) = (TaskTracker::new(), Crowd::new(CONNECTIONS, OF_ONE));
    loop {
        let accepted: Result<(TcpStream, SocketAddr), _> = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(EXHAUSTED).await;
            continue;
        };
        // Who comes when all places are taken is turned away, and asks again.
        let Some(place) = crowd.enter(peer.ip()) else { continue };
        let (answers, stop) = (answers.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                served = timeout(PATIENCE, converse(stream, &answers, port)) => drop(served),
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn converse(stream: TcpStream, answers: &Answers, port: u16) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, answers, port);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    let served =
        builder.max_buf_size(16 << 10).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for a challenge ended early");
    }
}

fn answer<B>(request: &Request<B>, answers: &Answers, port: u16) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PATH);
    let found = token.filter(|_| request.method() == Method::GET).and_then(|it| answers.get(it));
    if let Some(text) = found {
        return plain(StatusCode::OK, text);
    }
    // A challenge that is not ours is for whoever is served under that name.
    match target(request, port).and_then(|target| HeaderValue::try_from(target).ok()) {
        Some(target) => {
            let text = "this server speaks TLS\n".to_owned();
            let mut response = plain(StatusCode::PERMANENT_REDIRECT, text);
            response.headers_mut().insert(header::LOCATION, target);
            response
        }
        None => plain(StatusCode::BAD_REQUEST, "expected a Host header\n".to_owned()),
    }
}

/// The same place over TLS.
fn target<B>(request: &Request<B>, port: u16) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?.to_ascii_lowercase();
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _port)| name);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    (is_domain(name) && path.starts_with('/')).then(|| format!("https://{name}{port}{path}"))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn check(method: &str, path: &str, host: &str, port: u16) -> (u16, Option<String>) {
        let answers = Answers::default();
        answers.insert("token", "token.thumb");
        let request =
            Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
        let response = answer(&request, &answers, port);
        let location = response.headers().get("location").map(|it| it.to_str().unwrap().to_owned());
        (response.status().as_u16(), location)
    }

    #[test]
    fn a_challenge_is_answered_and_everything_else_goes_to_tls() {
        assert_eq!(
            check("GET", "/.well-known/acme-challenge/token", "a.example", 443),
            (200, None)
        );
        assert_eq!(check("POST", "/.well-known/acme-challenge/token", "a.example", 443).0, 308);
        let (_, to) = check("GET", "/.well-known/acme-challenge/other", "a.example", 443);
        assert_eq!(to.as_deref(), Some("https://a.example/.well-known/acme-challenge/other"));
        let (status, to) = check("GET", "/a?b=c", "A.example:80", 443);
        assert_eq!((status, to.as_deref()), (308, Some("https://a.example/a?b=c")));
        let (_, to) = check("GET", "/", "a.example", 7423);
        assert_eq!(to.as_deref(), Some("https://a.example:7423/"));
        for nobody in ["", "a.example/@evil", "127.0.0.1", "user@evil.example"] {
            assert_eq!(check("GET", "/", nobody, 443), (400, None), "{nobody}");
        }
    }

    #[tokio::test]
    async fn nobody_takes_all_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = serve(listener, Answers::default(), 443, stop.clone());
        let asked = async {
            let mut kept = Vec::new();
            for _ in 0..=OF_ONE {
                kept.push(TcpStream::connect(address).await.unwrap());
            }
            // The last one of this neighbourhood is turned away; the others are waited for.
            let mut nothing = [0; 1];
            let read = kept.last_mut().unwrap().read(&mut nothing);
            let read = timeout(PATIENCE / 2, read).await.expect("at once");
            assert!(matches!(read, Ok(0) | Err(_)));
            stop.cancel();
        };
        tokio::join!(served, asked);
    }
}
