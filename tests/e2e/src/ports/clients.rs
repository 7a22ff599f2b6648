//! Clients as people have them: curl with every version of HTTP, and gRPC.

use serde_json::{Value, json};

use super::Served;
use crate::{
    harness::{Home, command, needs, run, skip, wait_until},
    remote::Listening,
};

/// A server and a client of gRPC.
const GRPC: &[u8] = include_bytes!("calls.py");

impl Served<'_> {
    /// What curl says of an address of the port, with the token; `words` are further arguments.
    #[track_caller]
    fn curl(&self, scheme: &str, path: &str, words: &[&str]) -> String {
        let url = format!("{scheme}://{}{path}", self.host(3000));
        let host = format!("3000-{}.localhost:{}:127.0.0.1", self.sandbox.id, self.edge.port());
        let token = format!("x-warren-token: {}", self.token());
        let mut curl = command("curl");
        curl.args(["-sS", "--max-time", "60", "--noproxy", "*", "--resolve", &host, "-H", &token]);
        run(curl.args(words).arg(url), b"").good().text()
    }
}

#[test]
fn curl_speaks_every_version_of_http_to_a_port() {
    needs!("python3");
    needs!("curl");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let upload = home.file("upload", &vec![b'u'; 20 << 20]);
    let upload = upload.to_str().expect("a path");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let said = served.curl("http", "/x", &[flag, "-w", "|%{http_version}"]);
        assert_eq!(said, format!("GET /x host={}|{version}", served.host(3000)));
        let sent = served.curl("http", "/upload", &[flag, "-X", "POST", "-T", upload]);
        assert_eq!(sent, (20 << 20).to_string());
        let size = served.curl(
            "http",
            "/download?50000000",
            &[flag, "-o", "/dev/null", "-w", "%{size_download}"],
        );
        assert_eq!(size, "50000000");
    }
}

#[test]
fn over_tls_a_client_chooses_http_2_by_alpn() {
    needs!("python3");
    needs!("curl");
    needs!("openssl");
    let home = Home::new();
    let [cert, key] = ["server.pem", "server.key"].map(|name| home.file(name, b""));
    let mut openssl = command("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=DNS:*.localhost,DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    run(&mut openssl, b"").good();
    let [cert, key] = [&cert, &key].map(|path| path.to_str().expect("a path"));
    let _server = Listening::start(&home, &["--tls-cert", cert, "--tls-key", key]);
    let served = Served::start(&home, &json!({}), "");
    assert!(served.link["url"].as_str().expect("an address").starts_with("https://"));
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let words = [flag, "--insecure", "-w", "|%{http_version}"];
        let said = served.curl("https", "/x", &words);
        assert_eq!(said, format!("GET /x host={}|{version}", served.host(3000)));
    }
}

#[test]
fn every_kind_of_call_of_grpc_passes() {
    needs!("python3");
    if !std::path::Path::new("/usr/lib/python3/dist-packages/grpc").exists() {
        skip!("python3-grpcio is not installed");
    }
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let (id, script) = (&served.sandbox.id, home.file("calls.py", GRPC));
    assert_eq!(served.sandbox.api("PUT", "/files?path=/tmp/calls.py", GRPC).status, 200);
    let words =
        ["exec", "--detach", id, "--", "/usr/bin/python3", "/tmp/calls.py", "serve", "3002"];
    home.warren(&words).good();
    wait_until("it listens", || served.sandbox.api("GET", "/ports", b"").text().contains("3002"));
    let all = served.sandbox.api("POST", "/links", b"{}").json();
    let mut client = command("/usr/bin/python3");
    client.arg(script).arg(served.edge.to_string()).arg(served.host(3002));
    client.arg(all["token"].as_str().expect("a token"));
    let said = run(&mut client, b"").good().text();
    let found: Value = serde_json::from_str(&said).expect("JSON");
    let expected = json!({
        "turn": "cba",
        "large": 3_000_000,
        "count": ["0", "1", "2", "3", "4"],
        "sum": "64000000",
        "echo": ["one", "two", "three"],
        "rest": 0,
        "fail": ["RESOURCE_EXHAUSTED", "no more of it"],
        "without_token": "UNIMPLEMENTED",
    });
    assert_eq!(found, expected);
}
