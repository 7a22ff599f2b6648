//! What the host alone may ask.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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
