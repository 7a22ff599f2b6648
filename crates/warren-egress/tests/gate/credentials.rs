//! Requests to hosts that have credentials.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};
use warren_egress::{
    Authority, Credentials, HostRule, Reason,
    credentials::{HostPattern, Placeholder, Places, Secret},
    mask::Masks,
};

use crate::{origin::Origin, world::World};

const TOKEN: &str = "tok-0123456789abcdef";

/// A rule that sets a token, and lets a placeholder stand for it.
fn rule(host: &str) -> HostRule {
    let value = Secret::new(TOKEN.as_bytes().to_vec());
    let mut bearer = HeaderValue::from_str(&format!("Bearer {TOKEN}")).unwrap();
    bearer.set_sensitive(true);
    HostRule {
        host: HostPattern::parse(host).unwrap(),
        headers: vec![(header::AUTHORIZATION, bearer)],
        masks: Arc::new(Masks::new([&value])),
        placeholders: vec![Placeholder { text: "{{secret:TOKEN}}".to_owned(), value }],
        places: Places::default(),
        methods: Vec::new(),
        paths: Vec::new(),
        plain: false,
    }
}

/// A sandbox with one rule, a server that is `a.example` and `b.example`, and both authorities.
struct Setting {
    world: World,
    origin: Origin,
    authority: Arc<Authority>,
}

impl Setting {
    async fn new(rule: HostRule, alpn: &[&str]) -> Self {
        let mut world = World::new(&["a.example", "b.example"]);
        let origin = Origin::start(&mut world, &["a.example", "b.example"], alpn).await;
        world.trust(&origin.root);
        let authority = Arc::new(Authority::create("sb-test").unwrap());
        let setting = Self { world, origin, authority };
        setting.give(rule);
        setting
    }

    fn give(&self, rule: HostRule) {
        let authority = Arc::clone(&self.authority);
        self.world.passport.give(Credentials { authority, rules: vec![rule] });
    }

    /// TLS with a host through the gate, for a client that trusts this authority alone.
    async fn tls(&mut self, name: &str, root: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
        let stream = self.world.connect(self.origin.address).await;
        let name = name.to_owned().try_into().unwrap();
        connector(root, alpn).connect(name, stream).await.unwrap()
    }

    /// One request in HTTP/1.1 to `a.example`.
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let root = self.authority.certificate_pem().to_owned();
        let stream = self.tls("a.example", &root, &["http/1.1"]).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.world.tasks.spawn(async move { drop(connection.await) });
        sender.send_request(request).await.unwrap()
    }
}

fn connector(root: &str, alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn get(target: &str) -> Request<Full<Bytes>> {
    Request::get(target).header("host", "a.example").body(Full::default()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_header_is_set_that_the_sandbox_never_sees() {
    let mut setting = Setting::new(rule("a.example"), &["h2", "http/1.1"]).await;
    let mut request = get("/x?key={{secret:TOKEN}}");
    let headers = request.headers_mut();
    headers.insert("authorization", HeaderValue::from_static("Bearer mine"));
    headers.insert("x-key", HeaderValue::from_static("k={{secret:TOKEN}}"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    let response = setting.ask(request).await;
    let hidden = "*".repeat(TOKEN.len());
    assert_eq!(response.headers()["x-was"], format!("Bearer {hidden}"));
    let text = text(response).await;
    assert!(text.contains(&format!("authorization: Bearer {hidden}\n")), "{text}");
    assert!(text.contains(&format!("x-key: k={hidden}\n")), "{text}");
    assert!(text.contains("accept-encoding: identity\n"), "{text}");
    // Only where the rule names them.
    assert!(text.contains("key={{secret:TOKEN}}"), "{text}");
    assert!(!text.contains("mine") && !text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn what_reaches_the_host_is_the_secret() {
    // Nothing is hidden, so that the echo shows what was sent.
    let mut rule = rule("*.example");
    rule.masks = Arc::default();
    rule.places = Places { query: true, body: true };
    let mut setting = Setting::new(rule, &["http/1.1"]).await;
    let request = Request::post("/x?key=%7B%7Bsecret%3ATOKEN%7D%7D").header("host", "a.example");
    let request = request.body(Full::from("a {{secret:TOKEN}} b")).unwrap();
    let text = text(setting.ask(request).await).await;
    assert!(text.contains(&format!("POST /x?key={TOKEN} ")), "{text}");
    assert!(text.contains(&format!("authorization: Bearer {TOKEN}\n")), "{text}");
    assert!(text.contains(&format!("content-length: {}\n", TOKEN.len() + 4)), "{text}");
    assert!(text.ends_with(&format!("\na {TOKEN} b")), "{text}");
}

#[tokio::test]
async fn both_sides_speak_http2_where_both_can() {
    let mut setting = Setting::new(rule("a.example"), &["h2", "http/1.1"]).await;
    let root = setting.authority.certificate_pem().to_owned();
    let stream = setting.tls("a.example", &root, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    setting.world.tasks.spawn(async move { drop(connection.await) });
    let ask = |n: u32| {
        let request = Request::get(format!("https://a.example/{n}"));
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap())
    };
    let all = futures::future::join_all([1, 2, 3].map(ask)).await;
    for (response, n) in all.into_iter().zip(1..) {
        let text = text(response.unwrap()).await;
        assert!(text.starts_with(&format!("GET https://a.example/{n} HTTP/2.0\n")), "{text}");
        assert!(text.contains("authorization: Bearer ****"), "{text}");
    }
}

#[tokio::test]
async fn a_host_that_speaks_only_http1_is_offered_so() {
    let mut setting = Setting::new(rule("a.example"), &["http/1.1"]).await;
    let root = setting.authority.certificate_pem().to_owned();
    let stream = setting.tls("a.example", &root, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn hosts_without_a_rule_are_not_decrypted() {
    let mut setting = Setting::new(rule("a.example"), &["http/1.1"]).await;
    let root = setting.origin.root.clone();
    // The certificate is the host's own: a client that trusts it alone is content.
    let stream = setting.tls("b.example", &root, &[]).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    setting.world.tasks.spawn(async move { drop(connection.await) });
    let request = Request::get("/").header("host", "b.example").body(Empty::<Bytes>::new());
    let text = text(sender.send_request(request.unwrap()).await.unwrap()).await;
    assert!(!text.contains("authorization"), "{text}");
}

#[tokio::test]
async fn bodies_pass_piece_by_piece_in_both_directions_and_end_with_trailers() {
    let mut setting = Setting::new(rule("a.example"), &["h2"]).await;
    let root = setting.authority.certificate_pem().to_owned();
    let stream = setting.tls("a.example", &root, &["h2"]).await;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    setting.world.tasks.spawn(async move { drop(connection.await) });
    let (pieces, body) = mpsc::channel::<Bytes>(1);
    let body = futures::stream::unfold(body, |mut body| async move {
        let piece = body.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(piece)), body))
    });
    let body: UnsyncBoxBody<_, _> = StreamBody::new(body).boxed_unsync();
    let request = Request::post("https://a.example/pieces").body(body).unwrap();
    let mut response = sender.send_request(request).await.unwrap().into_body();
    // The second piece is sent only when the first has come back.
    for piece in ["first!", "second!"] {
        pieces.send(Bytes::from(piece)).await.unwrap();
        let frame = response.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(pieces);
    let last = response.frame().await.unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap()["x-last"], "really");
}

#[tokio::test]
async fn a_websocket_passes_and_hides_what_it_repeats() {
    let mut setting = Setting::new(rule("a.example"), &["h2", "http/1.1"]).await;
    let root = setting.authority.certificate_pem().to_owned();
    let stream = setting.tls("a.example", &root, &["http/1.1"]).await;
    let (mut socket, response) =
        tokio_tungstenite::client_async("wss://a.example/socket", stream).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let first = socket.next().await.unwrap().unwrap();
    assert_eq!(first.into_text().unwrap(), format!("Bearer {}", "*".repeat(TOKEN.len())));
    // Each answer is waited for, also one that ends like the beginning of the secret.
    for message in ["hello", "to", "tok-012"] {
        socket.send(message.into()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap(), message);
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn methods_and_paths_are_limited() {
    let mut rule = rule("a.example");
    rule.methods = vec![Method::GET];
    rule.paths = vec!["/mine/**".to_owned()];
    let mut setting = Setting::new(rule, &["http/1.1"]).await;
    assert_eq!(setting.ask(get("/mine/x")).await.status(), StatusCode::OK);
    let mut post = get("/mine/x");
    *post.method_mut() = Method::DELETE;
    for (request, reason) in [
        (post, Reason::Method),
        (get("/yours"), Reason::Path),
        (get("/mine/../yours"), Reason::Path),
    ] {
        assert_eq!(setting.ask(request).await.status(), StatusCode::FORBIDDEN);
        let denied = setting.world.denials.recv().await.unwrap();
        assert_eq!((denied.name.unwrap().as_str(), denied.reason), ("a.example", reason));
    }
}

#[tokio::test]
async fn a_request_for_another_host_than_that_of_the_certificate_is_misdirected() {
    let mut setting = Setting::new(rule("a.example"), &["http/1.1"]).await;
    let mut request = get("/");
    request.headers_mut().insert("host", HeaderValue::from_static("b.example"));
    assert_eq!(setting.ask(request).await.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_host_that_does_not_prove_who_it_is_gets_no_secret() {
    let mut setting = Setting::new(rule("a.example"), &["http/1.1"]).await;
    setting.world.trust(Authority::create("another").unwrap().certificate_pem());
    let response = setting.ask(get("/")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let text = text(response).await;
    assert!(text.contains("could not agree on TLS with a.example"), "{text}");
}

#[tokio::test]
async fn a_changed_rule_holds_for_the_next_request() {
    let mut setting = Setting::new(rule("a.example"), &["http/1.1"]).await;
    let root = setting.authority.certificate_pem().to_owned();
    let stream = setting.tls("a.example", &root, &[]).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    setting.world.tasks.spawn(async move { drop(connection.await) });
    let first = text(sender.send_request(get("/")).await.unwrap()).await;
    assert!(first.contains("authorization: Bearer ****"), "{first}");
    let mut changed = rule("a.example");
    changed.headers = vec![(header::ACCEPT, HeaderValue::from_static("other"))];
    setting.give(changed);
    let second = text(sender.send_request(get("/")).await.unwrap()).await;
    assert!(second.contains("accept: other\n") && !second.contains("authorization"), "{second}");
}

#[tokio::test]
async fn no_secret_is_sent_without_tls_unless_the_rule_and_the_address_say_so() {
    for (plain, answered) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rule = rule("a.example");
        rule.plain = plain;
        rule.masks = Arc::default();
        let mut setting = Setting::new(rule, &[]).await;
        if answered {
            setting.world.passport.answer_all();
        }
        let echo = |mut stream: TcpStream| async move {
            let mut head = vec![0; 2000];
            let read = stream.read(&mut head).await.unwrap();
            let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {read}\r\n\r\n");
            stream.write_all(length.as_bytes()).await.unwrap();
            stream.write_all(&head[..read]).await.unwrap();
        };
        let server = setting.world.server(echo).await;
        let mut client = setting.world.connect(server).await;
        let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.contains(TOKEN), plain && answered, "{plain} {answered}: {answer}");
    }
}
