//! Servers on ports: with and without TLS, and what is said when there is none.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use warren_api::{
    Code,
    client::{Client, ClientError, RemoteError},
};

use crate::script::{json, read_request};

const HEALTH: &str = r#"{"status":"ok"}"#;

/// A server that answers one request, and gives what it was asked.
struct Once {
    address: SocketAddr,
    asked: JoinSet<Option<String>>,
}

impl Once {
    async fn plain() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut asked = JoinSet::new();
        asked.spawn(async move { answer(listener.accept().await.unwrap().0).await });
        Self { address, asked }
    }

    async fn tls(certified: &CertifiedKey) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKeyDer::try_from(certified.key_pair.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut asked = JoinSet::new();
        asked.spawn(async move {
            let stream = listener.accept().await.unwrap().0;
            answer(acceptor.accept(stream).await.ok()?).await
        });
        Self { address, asked }
    }

    async fn asked(mut self) -> String {
        self.asked.join_next().await.unwrap().unwrap().unwrap()
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<String> {
    let request = read_request(&mut stream).await?;
    stream.write_all(json("200 OK", HEALTH).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    Some(request)
}

fn client(url: &str, key: Option<&str>, ca: Option<&PathBuf>) -> Client {
    let key = key.map(|key| key.parse().unwrap());
    Client::remote(url.parse().unwrap(), key.as_ref(), ca.map(PathBuf::as_path)).unwrap()
}

/// Why there was no connection.
#[track_caller]
fn cause(error: &ClientError) -> &RemoteError {
    let ClientError::Connect { source } = error else { panic!("{error:?}") };
    source.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn a_key_and_the_host_are_in_every_request() {
    let server = Once::plain().await;
    let url = format!("http://{}", server.address);
    client(&url, Some("wrn_0123"), None).health().await.unwrap();
    let host = format!("host: {}", server.address);
    let request = server.asked().await;
    assert!(request.lines().any(|line| line == "authorization: Bearer wrn_0123"), "{request}");
    assert_eq!(
        request.lines().filter(|line| line.starts_with("host:")).collect::<Vec<_>>(),
        [host]
    );
}

#[tokio::test]
async fn without_a_key_none_is_sent() {
    let server = Once::plain().await;
    client(&format!("http://{}", server.address), None, None).health().await.unwrap();
    assert!(!server.asked().await.contains("authorization"));
}

#[tokio::test]
async fn a_certificate_is_trusted_where_a_file_says_so() {
    let certified = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();

    let server = Once::tls(&certified).await;
    let url = format!("https://localhost:{}", server.address.port());
    client(&url, Some("wrn_0123"), Some(&file)).health().await.unwrap();
    assert!(server.asked().await.contains("authorization: Bearer wrn_0123"));

    let server = Once::tls(&certified).await;
    let url = format!("https://localhost:{}", server.address.port());
    let error = client(&url, Some("wrn_0123"), None).health().await.unwrap_err();
    assert!(matches!(cause(&error), RemoteError::Untrusted { .. }), "{error:?}");

    // The same certificate for another host.
    let server = Once::tls(&certified).await;
    let url = format!("https://127.0.0.1:{}", server.address.port());
    let error = client(&url, None, Some(&file)).health().await.unwrap_err();
    assert!(matches!(cause(&error), RemoteError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_no_server_with_it() {
    let server = Once::plain().await;
    let url = format!("https://127.0.0.1:{}", server.address.port());
    let error = client(&url, None, None).health().await.unwrap_err();
    let cause = cause(&error);
    assert!(
        matches!(cause, RemoteError::Tls { .. } | RemoteError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_key_is_not_shown_to_the_network() {
    // An address of documentation: nothing is sent to it, for the refusal comes before.
    let error = client("http://192.0.2.1:80", Some("wrn_0123"), None).health().await.unwrap_err();
    assert!(matches!(cause(&error), RemoteError::KeyInTheOpen { .. }), "{error:?}");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(!format!("{error:?} {error}").contains("0123"));
}

#[tokio::test]
async fn nobody_at_an_address_is_said_with_the_address() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url, None, None).health().await.unwrap_err();
    assert_eq!(cause(&error).to_string(), format!("nobody listens at {url}"));
}

#[tokio::test]
async fn a_name_without_an_address_is_said() {
    let error = client("http://no-such-host.invalid:80", None, None).health().await.unwrap_err();
    assert!(cause(&error).to_string().contains("no-such-host.invalid"), "{error:?}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let open = || {
        let url = "https://localhost".parse().unwrap();
        Client::remote(url, None, Some(&file)).unwrap_err()
    };
    let missing = open();
    assert!(missing.to_string().contains("ca.pem"), "{missing}");
    std::fs::write(&file, "nothing").unwrap();
    let RemoteError::Certificates { source, .. } = open() else { panic!("{:?}", open()) };
    assert!(source.to_string().contains("expected certificates in PEM"), "{source}");
}

#[tokio::test]
async fn a_socket_of_this_machine_is_a_server_too() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { answer(listener.accept().await.unwrap().0).await });
    client(&format!("unix://{}", socket.display()), None, None).health().await.unwrap();
    assert!(server.join_next().await.unwrap().unwrap().unwrap().contains("host: warren"));
}
