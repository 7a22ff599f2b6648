//! What the host alone may ask.

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use warren_proto::Codec;
use warren_proto::envelope::encode_message;

use crate::client::{Agent, in_time, whole};

fn upgrade(port: &str) -> Request<Full<Bytes>> {
    Request::post(format!("/port/{port}"))
        .header("host", "agent")
        .header("connection", "upgrade")
        .header("upgrade", "tcp")
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn init_sets_what_processes_see_and_may_be_called_again() {
    let agent = Agent::start().await;
    assert_eq!(agent.http("GET", "/envs", &[], "").await.json(), json!({"FROM_INIT": "yes"}));
    let body = json!({"envVars": {"A": "1"}, "defaultWorkdir": "/"}).to_string();
    assert_eq!(agent.control("POST", "/init", &body).await.status, 204);
    assert_eq!(agent.http("GET", "/envs", &[], "").await.json(), json!({"A": "1"}));
    assert_eq!(agent.run("pwd; echo $A$FROM_INIT").await.text(), "/\n1");
    assert_eq!(agent.control("POST", "/init", "{").await.status, 400);
    assert_eq!(agent.http("GET", "/envs", &[], "").await.json(), json!({"A": "1"}));
}

#[tokio::test]
async fn each_socket_offers_its_own_paths_alone() {
    let agent = Agent::start().await;
    assert_eq!(agent.control("GET", "/health", "").await.status, 204);
    assert_eq!(agent.http("GET", "/health", &[], "").await.status, 204);
    assert_eq!(agent.http("POST", "/init", &[], "{}").await.status, 404);
    assert_eq!(agent.http("POST", "/port/80", &[], "").await.status, 404);
    assert_eq!(agent.control("GET", "/files?path=/etc/passwd", "").await.status, 404);
    assert_eq!(agent.control("POST", "/process.Process/List", "{}").await.status, 404);
}

#[tokio::test]
async fn browsers_may_call_from_anywhere() {
    let agent = Agent::start().await;
    for path in ["/files", "/process.Process/Start", "/anything"] {
        let answer = agent.http("OPTIONS", path, &[("origin", "http://x")], "").await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.header("access-control-allow-methods").contains("POST"));
    }
    let answer = agent.http("GET", "/health", &[], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn metrics_have_the_names_that_the_sdks_read() {
    let agent = Agent::start().await;
    let metrics = agent.http("GET", "/metrics", &[], "").await.json();
    for name in [
        "ts",
        "cpu_count",
        "cpu_used_pct",
        "mem_total",
        "mem_used",
        "mem_cache",
        "mem_total_mib",
        "mem_used_mib",
        "disk_used",
        "disk_total",
    ] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn a_connection_becomes_a_stream_to_a_port() {
    let agent = Agent::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let response = agent.send("control.sock", upgrade(&port)).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "tcp");
    let mut host = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (mut inside, _) = in_time("a connection", listener.accept()).await.unwrap();
    host.write_all(b"ping").await.unwrap();
    let mut text = [0; 4];
    inside.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"ping");
    inside.write_all(b"pong").await.unwrap();
    drop(inside);
    let mut text = Vec::new();
    in_time("the other end", host.read_to_end(&mut text)).await.unwrap();
    assert_eq!(text, b"pong");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_bad_gateway() {
    let agent = Agent::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    for (port, status) in [(port.as_str(), 502), ("0x50", 400), ("70000", 400), ("", 400)] {
        let answer = whole(agent.send("control.sock", upgrade(port)).await).await;
        assert_eq!(answer.status, status, "{port}");
        assert_eq!(answer.json()["code"], status);
    }
    assert_eq!(agent.control("POST", "/port/80", "").await.status, 400, "without an upgrade");
}

#[tokio::test]
async fn http2_is_spoken_to_who_begins_with_it() {
    let agent = Agent::start().await;
    let io = TokioIo::new(agent.socket("envd.sock").await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    drop(tokio::runtime::Handle::current().spawn(async move { drop(connection.await) }));
    let message = crate::client::shell("echo over h2");
    let body = encode_message(Codec::Json, &message).unwrap();
    let request = |path: &str, body: Bytes| {
        Request::post(format!("http://agent{path}"))
            .header("content-type", "application/connect+json")
            .body(Full::new(body))
            .unwrap()
    };
    let start = request("/process.Process/Start", body);
    let answer = whole(in_time("an answer", sender.send_request(start)).await.unwrap()).await;
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains(r#""stdout":"b3ZlciBoMgo=""#) && text.ends_with("{}"), "{text}");
    // Frames without content end the connections of some clients after a hundred of them.
    let many = request(
        "/process.Process/Start",
        encode_message(Codec::Json, &crate::client::shell("seq 1 300000")).unwrap(),
    );
    let mut body = in_time("an answer", sender.send_request(many)).await.unwrap().into_body();
    while let Some(frame) = in_time("a frame", body.frame()).await {
        assert!(frame.unwrap().into_data().is_ok_and(|it| !it.is_empty()));
    }
}
