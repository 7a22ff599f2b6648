//! A server as guests have them, at an address that the fake runtime dials.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::task::TaskTracker;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A server, for as long as the runtime of the test.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What `/events` says, as it is said.
    events: Arc<Mutex<Option<mpsc::UnboundedSender<String>>>>,
}

/// A request as the guest has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Backend {
    /// A server of HTTP/1.1.
    pub(crate) async fn http1() -> Self {
        Self::start(false).await
    }

    /// A server that speaks HTTP/2 alone.
    pub(crate) async fn http2() -> Self {
        Self::start(true).await
    }

    async fn start(http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Self { address, seen: Arc::default(), events: Arc::default() };
        let serving = backend.clone();
        TaskTracker::new().spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                TaskTracker::new().spawn(serving.clone().converse(stream, http2));
            }
        });
        backend
    }

    /// The requests that came, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last one.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    /// Says something to whoever reads `/events`.
    pub(crate) fn say(&self, text: &str) {
        self.events.lock().unwrap().as_ref().unwrap().send(text.to_owned()).unwrap();
    }

    async fn converse(self, stream: TcpStream, http2: bool) {
        stream.set_nodelay(true).unwrap();
        let stream = TokioIo::new(stream);
        let service = service_fn(move |request| {
            let backend = self.clone();
            async move { Ok::<_, Infallible>(backend.answer(request).await) }
        });
        // How it ended is for the client to say.
        if http2 {
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await);
        } else {
            let connection = http1::Builder::new().serve_connection(stream, service);
            drop(connection.with_upgrades().await);
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Reply {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
        let target = request.uri().to_string();
        self.seen.lock().unwrap().push(Seen { target, headers });
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/upload" => {
                let mut bytes = 0;
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                full(&bytes.to_string())
            }
            "/never-reads" => {
                // Holds the body and reads nothing of it.
                let _body = request.into_body();
                std::future::pending().await
            }
            "/download" => {
                let piece = Bytes::from(vec![b'x'; 64 << 10]);
                let pieces = futures::stream::repeat(piece).take(256);
                streamed(pieces)
            }
            "/events" => {
                let (sender, said) = mpsc::unbounded_channel::<String>();
                *self.events.lock().unwrap() = Some(sender);
                let said = futures::stream::unfold(said, async |mut said| {
                    let text = said.recv().await?;
                    Some((Bytes::from(text), said))
                });
                let mut reply = streamed(said);
                let kind = HeaderValue::from_static("text/event-stream");
                reply.headers_mut().insert(header::CONTENT_TYPE, kind);
                reply
            }
            "/hops" => {
                let mut reply = full("ok");
                for (name, value) in [
                    ("connection", "x-private"),
                    ("x-private", "1"),
                    ("keep-alive", "timeout=5"),
                    ("set-cookie", "warren_token=stolen"),
                    ("set-cookie", "own=1"),
                    ("warren-edge", "lies"),
                ] {
                    reply.headers_mut().append(name, HeaderValue::from_static(value));
                }
                reply
            }
            "/grpc" => {
                let data = request.into_body().collect().await.unwrap().to_bytes();
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let frames = [Ok(Frame::data(data)), Ok(Frame::trailers(trailers))];
                Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
            }
            "/socket" => {
                let to = request.headers()[header::UPGRADE].clone();
                let upgrade = hyper::upgrade::on(&mut request);
                TaskTracker::new().spawn(async move {
                    let mut stream = TokioIo::new(upgrade.await.unwrap());
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        stream.write_all(&buffer[..read]).await.unwrap();
                    }
                    stream.shutdown().await.ok();
                });
                let mut reply = full("");
                *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let connection = HeaderValue::from_static("upgrade");
                reply.headers_mut().insert(header::CONNECTION, connection);
                reply.headers_mut().insert(header::UPGRADE, to);
                reply
            }
            _ => full(&path),
        }
    }
}

fn full(text: &str) -> Reply {
    Response::new(Full::new(Bytes::from(text.to_owned())).boxed_unsync())
}

fn streamed(pieces: impl futures::Stream<Item = Bytes> + Send + 'static) -> Reply {
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// A server that notes every byte that comes and answers each connection once, with this.
pub(crate) async fn raw(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let noted = Arc::clone(&seen);
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            TaskTracker::new().spawn(async move {
                stream.write_all(answer.as_bytes()).await.ok();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    noted.lock().unwrap().extend_from_slice(&buffer[..read]);
                }
            });
        }
    });
    (address, seen)
}
