//! Pages, over everything that HTTP is spoken over.
//!
//! | path | what |
//! |---|---|
//! | `/bytes/N` | so many bytes |
//! | `/echo` | the body, piece by piece as it comes |
//! | `/events` | an event stream without end, one event each [`BEAT`] |
//! | `/socket` | a WebSocket that first says what it was asked, and echoes then |
//! | `/to/URL` | a redirection there |
//! | any other | what was asked, as JSON: a header that was sent is seen in the answer |

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::{
    Request, Seen,
    internet::{Parts, listen, plain},
    port,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Between two events of a stream.
const BEAT: Duration = Duration::from_millis(20);
/// Bytes of `/bytes` are sent in such pieces.
const PIECE: usize = 64 << 10;

/// How a connection came about.
#[derive(Clone, Debug)]
struct Line {
    seen: Seen,
    tls: bool,
    tls_name: Option<String>,
    ends: [Option<std::net::SocketAddr>; 2],
}

/// The servers of pages.
pub(crate) async fn serve(tasks: &mut JoinSet<()>, parts: &Parts) -> io::Result<()> {
    for port in [port::HTTP, port::OTHER_HTTP] {
        let seen = parts.seen.clone();
        listen(tasks, port, move |stream| {
            let ends = ends(&stream);
            let line = Line { seen: seen.clone(), tls: false, tls_name: None, ends };
            pages(stream, line)
        })
        .await?;
    }
    let acceptor = TlsAcceptor::from(Arc::new(parts.authority.tls().map_err(io::Error::other)?));
    let seen = parts.seen.clone();
    listen(tasks, port::HTTPS, move |stream| {
        let (acceptor, seen, ends) = (acceptor.clone(), seen.clone(), ends(&stream));
        async move {
            // A client that does not trust the server goes away.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let tls_name = stream.get_ref().1.server_name().map(str::to_owned);
            pages(stream, Line { seen, tls: true, tls_name, ends }).await;
        }
    })
    .await
}

fn ends(stream: &TcpStream) -> [Option<std::net::SocketAddr>; 2] {
    [plain(stream.peer_addr()), plain(stream.local_addr())]
}

async fn pages<S>(stream: S, line: Line)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(move |request| {
        let line = line.clone();
        async move { Ok::<_, Infallible>(answer(request, &line).await) }
    });
    // A client that goes in the middle has its reason.
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

async fn answer(mut request: http::Request<Incoming>, line: &Line) -> Response<Body> {
    let asked = line.asked(&request);
    line.seen.request(asked.clone());
    let path = request.uri().path().to_owned();
    let (head, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((&path, ""));
    match (head, rest) {
        ("bytes", number) => number.parse().map_or_else(|_nan| nothing(), many),
        ("to", url) => redirect(url),
        ("/echo", _) => Response::new(pieces(request.into_body())),
        ("/events", _) => events(),
        ("/socket", _) => socket(&mut request, &asked),
        _ => describe(request, &asked).await,
    }
}

impl Line {
    fn asked(&self, request: &http::Request<Incoming>) -> Request {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let [peer, local] = self.ends;
        Request {
            tls_name: self.tls_name.clone(),
            tls: self.tls,
            method: request.method().to_string(),
            target: request.uri().to_string(),
            version: format!("{:?}", request.version()),
            headers: request.headers().iter().map(header).collect(),
            peer,
            local,
        }
    }
}

/// The request as JSON: what a client can print, and what repeats every header.
fn told(asked: &Request, body: &str) -> String {
    let headers: serde_json::Map<_, _> =
        asked.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let address = |end: Option<std::net::SocketAddr>| end.map(|it| it.ip().to_string());
    json!({
        "method": asked.method, "target": asked.target, "version": asked.version,
        "tls": asked.tls, "tls_name": asked.tls_name, "headers": headers, "body": body,
        "peer": address(asked.peer), "local": address(asked.local),
    })
    .to_string()
}

async fn describe(request: http::Request<Incoming>, asked: &Request) -> Response<Body> {
    let Ok(body) = request.into_body().collect().await else { return nothing() };
    let text = told(asked, &String::from_utf8_lossy(&body.to_bytes()));
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let credential = asked.header("authorization").map(HeaderValue::from_str);
    if let Some(Ok(credential)) = credential {
        headers.insert("x-was", credential);
    }
    response
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn redirect(url: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(url) else { return nothing() };
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn many(bytes: u64) -> Response<Body> {
    let whole = Bytes::from(vec![b'w'; PIECE]);
    let pieces = stream::unfold(bytes, move |left| {
        let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let piece = whole.slice(..length);
        async move {
            (left > 0).then(|| (Ok::<_, Infallible>(Frame::data(piece)), left - length as u64))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    response
}

fn pieces(body: Incoming) -> Body {
    let pieces = body
        .into_data_stream()
        .filter_map(|piece| async move { Some(Ok::<_, Infallible>(Frame::data(piece.ok()?))) });
    StreamBody::new(pieces).boxed_unsync()
}

fn events() -> Response<Body> {
    let events = stream::unfold(0_u64, |number| async move {
        tokio::time::sleep(BEAT).await;
        let event = Bytes::from(format!("data: {number}\n\n"));
        Some((Ok::<_, Infallible>(Frame::data(event)), number + 1))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn socket(request: &mut http::Request<Incoming>, asked: &Request) -> Response<Body> {
    let Some(key) = asked.header("sec-websocket-key") else { return nothing() };
    let key = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let upgrade = hyper::upgrade::on(&mut *request);
    let first = told(asked, "");
    #[expect(clippy::disallowed_methods, reason = "ends with its connection or the internet")]
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let mut said = socket.send(first.into()).await;
        while let (Ok(()), Some(Ok(message))) = (&said, socket.next().await) {
            if message.is_text() || message.is_binary() {
                said = socket.send(message).await;
            }
        }
    });
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = key {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}
