//! A server on the internet, with a certificate of an authority of its own.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use crate::world::World;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that says what it was asked.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    /// The authority that it is trusted by.
    pub(crate) root: String,
}

impl Origin {
    /// Starts one that is these hosts, and speaks these versions of HTTP.
    pub(crate) async fn start(world: &mut World, names: &[&str], alpn: &[&str]) -> Self {
        let (root, config) = identity(names, alpn);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = move |stream: TcpStream| {
            let acceptor = acceptor.clone();
            async move {
                // A client that does not trust it goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let service = service_fn(answer);
                let io = TokioIo::new(stream);
                drop(builder.serve_connection_with_upgrades(io, service).await);
            }
        };
        Self { address: world.server(serve).await, root }
    }
}

fn identity(names: &[&str], alpn: &[&str]) -> (String, ServerConfig) {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = root.self_signed(&root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &root, &root_key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    (root.pem(), config)
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/socket" => socket(&mut request),
        "/pieces" => Response::new(pieces(request.into_body())),
        _ => describe(request).await,
    };
    Ok(response)
}

/// Repeats the whole request, in the body and in a header.
async fn describe(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = body.collect().await.unwrap().to_bytes();
    text.push_str(&format!("\n{}", String::from_utf8_lossy(&body)));
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        response.headers_mut().insert("x-was", value.clone());
    }
    response
}

/// Sends back each piece of a body as it comes, and then a trailer.
fn pieces(body: Incoming) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-last", HeaderValue::from_static("really"));
    let pieces = body
        .into_data_stream()
        .filter_map(|piece| async move { Some(Ok::<_, Infallible>(Frame::data(piece.ok()?))) });
    let last = futures::stream::iter([Ok(Frame::trailers(trailers))]);
    StreamBody::new(pieces.chain(last)).boxed_unsync()
}

/// Switches to WebSocket, says what it was sent as a header, and echoes.
fn socket(request: &mut Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut *request);
    let key = request.headers()["sec-websocket-key"].as_bytes().to_vec();
    let key = tokio_tungstenite::tungstenite::handshake::derive_accept_key(&key);
    let was = request.headers()["authorization"].to_str().unwrap().to_owned();
    #[allow(clippy::disallowed_methods, reason = "ends with the connection that the test makes")]
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        socket.send(was.into()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key.parse().unwrap());
    response
}
