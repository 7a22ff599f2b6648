//! The server on real TCP sockets, with and without TLS, as seen by clients of bad manners.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;
use warren_api::{
    client::{Client, Endpoint},
    exec::ExecRequest,
    sandbox::CreateSandbox,
};
use warren_server::{Access, Config, Tls, serve_tcp};

use crate::app::TestApp;

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Served {
    pub(crate) app: TestApp,
    pub(crate) address: SocketAddr,
    ended: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(config: Config, tls: Option<Tls>) -> Self {
        Self::with_access(config, tls, Access::Keys).await
    }

    pub(crate) async fn with_access(config: Config, tls: Option<Tls>, access: Access) -> Self {
        let app = TestApp::limited(config).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = serve_tcp(listener, tls, access, app.app.clone());
        let ended = TaskTracker::new().spawn(async { served.await.unwrap() });
        Self { app, address, ended }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.app.app.stop();
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap();
        tokio::time::timeout(PATIENCE, self.app.app.shut_down()).await.unwrap();
    }
}

/// Everything until the server closes.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().ok();
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn ask(served: &Served, request: &str) -> String {
    let mut stream = served.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(stream).await
}

#[tokio::test]
async fn a_client_with_a_key_works_over_tcp() {
    let served = Served::start(Config::default(), None).await;
    let key = served.app.project_key("default").await.parse().unwrap();
    let endpoint: Endpoint = format!("http://{}", served.address).parse().unwrap();
    let stranger = Client::remote(endpoint.clone(), None, None).unwrap();
    let refused = stranger.create_sandbox(&CreateSandbox::default()).await.unwrap_err();
    assert_eq!(refused.code(), warren_api::Code::Unauthenticated);
    let client = Client::remote(endpoint.clone(), Some(&key), None).unwrap();
    let sandbox = client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let request = ExecRequest { command: vec!["cat".into()], stdin: true, ..Default::default() };
    let (mut input, _output) = client.exec_socket(&sandbox.id, &request).await.unwrap();
    input.stdin(b"over a WebSocket".as_slice().into()).await.unwrap();
    served.app.as_owner("other").await;
    let other = served.app.project_key("other").await.parse().unwrap();
    let other = Client::remote(endpoint, Some(&other), None).unwrap();
    let refused = other.exec_socket(&sandbox.id, &request).await.unwrap_err();
    assert_eq!(refused.code(), warren_api::Code::NotFound);
    client.delete_sandbox(&sandbox.id).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_works_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
    let tls = Tls::open(&certificate, &key).unwrap();
    let config = Config { tls_timeout: Duration::from_millis(200), ..Config::default() };
    let served = Served::start(config, Some(tls.clone())).await;

    let endpoint = format!("https://localhost:{}", served.address.port());
    let endpoint: Endpoint = endpoint.parse().unwrap();
    let api_key = served.app.project_key("default").await.parse().unwrap();
    let client = Client::remote(endpoint.clone(), Some(&api_key), Some(&certificate)).unwrap();
    let sandbox = client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let request = ExecRequest { command: vec!["echo".into(), "hi".into()], ..Default::default() };
    let outcome = client.exec(&sandbox.id, &request).await.unwrap();
    assert_eq!(outcome.stdout, "hi\n");
    let distrustful = Client::remote(endpoint.clone(), Some(&api_key), None).unwrap();
    let refused = distrustful.get_sandbox(&sandbox.id).await.unwrap_err();
    assert!(matches!(refused, warren_api::client::ClientError::Connect { .. }), "{refused}");

    // Who does not speak TLS gets no answer, and who says nothing is not waited for.
    assert!(!ask(&served, "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.contains("HTTP"));
    assert_eq!(rest(served.connect().await).await, "");

    // Another certificate is taken up without a restart.
    let renewed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, renewed.cert.pem()).unwrap();
    std::fs::write(&key, renewed.key_pair.serialize_pem()).unwrap();
    tls.reload().unwrap();
    let client = Client::remote(endpoint, Some(&api_key), Some(&certificate)).unwrap();
    client.get_sandbox(&sandbox.id).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn who_dawdles_over_a_request_is_dropped() {
    let config = Config { head_timeout: Duration::from_millis(200), ..Config::default() };
    let served = Served::start(config, None).await;
    assert_eq!(rest(served.connect().await).await, "", "not a word");
    let answer = ask(&served, "GET /v1/health HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(!answer.contains("200"), "{answer}");
    // One who is done and idles is dropped too.
    let answer = ask(&served, "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn a_head_has_its_limits() {
    let served = Served::start(Config::default(), None).await;
    let long = "a".repeat(33 << 10);
    let answer = ask(&served, &format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = "x: y\r\n".repeat(101);
    let answer = ask(&served, &format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // What only begins like HTTP/2 is no request.
    let answer = ask(&served, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(!answer.contains(" 200"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn connections_have_a_limit() {
    let config = Config { connections: 2, ..Config::default() };
    let served = Served::start(config, None).await;
    let health = b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = served.connect().await;
        stream.write_all(health).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    assert_eq!(rest(served.connect().await).await, "");
    drop(kept);
    // Their places are free once the server has seen that they are gone.
    let again = async {
        loop {
            let mut stream = served.connect().await;
            stream.write_all(health).await.ok();
            let mut first = [0; 12];
            if stream.read_exact(&mut first).await.is_ok() {
                return first;
            }
        }
    };
    assert_eq!(&tokio::time::timeout(PATIENCE, again).await.unwrap(), b"HTTP/1.1 200");
    served.stop().await;
}

#[tokio::test]
async fn without_keys_no_other_machine_is_listened_to() {
    let app = TestApp::start().await;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let error = serve_tcp(listener, None, Access::Open, app.app.clone()).await.unwrap_err();
    assert!(error.to_string().contains("only loopback addresses"), "{error}");
}

#[tokio::test]
async fn a_conversation_without_a_request_ends_with_the_server() {
    let served = Served::start(Config::default(), None).await;
    let key = served.app.project_key("default").await;
    let id = served.app.create().await;
    let mut stream = served.connect().await;
    let head = format!(
        "GET /v1/sandboxes/{id}/exec/ws HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 101");
    served.app.app.stop();
    let mut said = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    ended.expect("the server closes the connection").ok();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("the server is shutting down"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn who_is_turned_away_is_counted() {
    let served = Served::start(Config::default(), None).await;
    let request = "GET /v1/sandboxes HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(ask(&served, request).await.starts_with("HTTP/1.1 401"));
    let page = served.app.get("/v1/metrics").await;
    let page = String::from_utf8_lossy(&page.body);
    assert!(page.contains("\nwarren_http_turned_away_total{status=\"401\"} 1\n"), "{page}");
    served.stop().await;
}
