//! Programs that come to the name of a port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use serde_json::json;

use super::{Served, read_head};
use crate::harness::{Home, memory, needs};

#[test]
fn a_port_on_the_loopback_is_reached_by_name_with_a_token() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let answer = served.get("/x?y=1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with(&format!("GET /x?y=1 host={}", served.host(3000))), "{answer}");
    let host = served.host(3000);
    let plain = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    assert!(served.raw(&plain).starts_with("HTTP/1.1 404 "), "private");
    let closed = plain.replace("3000-", "3999-").replace("\r\n\r\n", "\r\nx-warren-token: ");
    let all = served.sandbox.api("POST", "/links", b"{}").json();
    let closed = format!("{closed}{}\r\n\r\n", all["token"].as_str().expect("a token"));
    assert!(served.raw(&closed).starts_with("HTTP/1.1 502 "), "nothing listens");
    // The address for browsers has no API.
    let api = "GET /v1/sandboxes HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(served.raw(api).starts_with("HTTP/1.1 404 "), "ports alone");
    // A link means the same to the next server.
    home.kill_server();
    home.warren(&["list"]).good();
    let again = home.warren(&["--json", "port", &served.sandbox.id, "3000"]).good().text();
    let again: serde_json::Value = serde_json::from_str(&again).expect("a link");
    assert_eq!(again["token"], served.link["token"]);
    home.warren(&["port", &served.sandbox.id, "3000", "--public"]).good();
    let public = served.sandbox.get();
    assert_eq!(public["public_ports"], json!([3000]));
}

#[test]
fn bodies_of_a_gigabyte_pass_both_ways_and_are_kept_nowhere() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let server = home.server_pid().expect("a server runs");
    let before = memory(server);
    let size: usize = 1 << 30;
    let mut down = BufReader::with_capacity(1 << 20, served.connect());
    let head = served.head(&format!("GET /download?{size}"), "connection: close\r\n");
    down.get_mut().write_all(head.as_bytes()).expect("write a request");
    assert!(read_head(&mut down).starts_with("HTTP/1.1 200 "));
    let mut came = 0;
    loop {
        let piece = down.fill_buf().expect("a piece");
        let length = piece.len();
        if length == 0 {
            break;
        }
        assert!(piece.iter().all(|byte| *byte == b'd'), "nothing else");
        came += length;
        down.consume(length);
    }
    assert_eq!(came, size);
    let mut up = served.connect();
    let length = format!("content-length: {size}\r\nconnection: close\r\n");
    up.write_all(served.head("POST /upload", &length).as_bytes()).expect("write a request");
    let piece = vec![b'u'; 1 << 20];
    for _ in 0..size / piece.len() {
        up.write_all(&piece).expect("write a piece");
    }
    let mut answer = String::new();
    up.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with(&format!("\r\n\r\n{size}")), "{answer}");
    let grown = memory(server).saturating_sub(before);
    assert!(grown < 64 << 20, "the server has grown by {grown} bytes");
}

#[test]
fn events_sockets_and_calls_pass_as_they_come() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let mut events = BufReader::new(served.connect());
    let head = served.head("GET /events", "connection: close\r\n");
    events.get_mut().write_all(head.as_bytes()).expect("write a request");
    assert!(read_head(&mut events).contains("text/event-stream"));
    for number in 0..3 {
        let mut line = String::new();
        while !line.contains(&format!("data: {number}")) {
            assert_ne!(events.read_line(&mut line).expect("a line"), 0, "ended after {line}");
        }
        served.sandbox.root(&format!("touch /tmp/seen-{number}"));
    }
    let mut socket = BufReader::new(served.connect());
    let lines = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = served.head("GET /socket", lines);
    socket.get_mut().write_all(head.as_bytes()).expect("write a request");
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // A text of two letters, masked with zeros.
    socket.get_mut().write_all(b"\x81\x82\0\0\0\0hi").expect("write a message");
    let mut back = [0; 4];
    socket.read_exact(&mut back).expect("a message");
    assert_eq!(&back, b"\x81\x02hi");
    // What speaks HTTP/2 alone is spoken to so where gRPC is.
    let all = served.sandbox.api("POST", "/links", b"{}").json();
    let head = served.head(
        "POST /call",
        "content-type: application/grpc\r\ncontent-length: 5\r\nconnection: close\r\n",
    );
    let head = head
        .replace("3000-", "3001-")
        .replace(served.token(), all["token"].as_str().expect("a token"));
    let answer = served.raw(&format!("{head}hello"));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("hello"), "{answer}");
}

#[test]
fn requests_that_can_be_read_in_two_ways_do_not_come_in() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let other = served.host(3001);
    for (lines, after) in [
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n"),
        ("content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        ("x-a: b\r\n folded: c\r\n", ""),
        (&*format!("host: {other}\r\n"), ""),
    ] {
        let head = served.head("POST /first", &format!("connection: close\r\n{lines}"));
        served.raw(&format!("{head}{after}{smuggled}"));
    }
    let lies = served.head("GET http://localhost/v1/sandboxes", "connection: close\r\n");
    assert!(served.raw(&lies).starts_with("HTTP/1.1 400 "));
    // A second request on the same connection is looked at by itself.
    let first = served.head("GET /first", "");
    let second = format!(
        "GET /smuggled HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        served.host(3000)
    );
    let answers = served.raw(&format!("{first}{second}"));
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 404 "), "{answers}");
    let log = served.sandbox.root("cat /tmp/requests");
    assert!(!log.contains("smuggled"), "{log}");
    assert!(log.contains("first"), "{log}");
}

#[test]
fn a_paused_sandbox_wakes_for_whoever_has_a_token() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({"public_ports": [3000]}), "");
    let link = served.sandbox.api("POST", "/links", b"{}").json();
    let token = link["token"].as_str().expect("a token");
    let host = served.host(3000);
    let plain = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    assert!(served.raw(&format!("{plain}\r\n")).starts_with("HTTP/1.1 200 "));
    home.warren(&["pause", &served.sandbox.id]).good();
    assert!(served.raw(&format!("{plain}\r\n")).starts_with("HTTP/1.1 503 "));
    assert_eq!(served.sandbox.get()["state"], "paused");
    let woken = served.raw(&format!("{plain}x-warren-token: {token}\r\n\r\n"));
    assert!(woken.starts_with("HTTP/1.1 200 "), "{woken}");
    assert_eq!(served.sandbox.get()["state"], "running");
    // Those that are kept for the next request do not keep a stopped one's network.
    home.warren(&["stop", &served.sandbox.id]).good();
    assert!(served.raw(&format!("{plain}\r\n")).starts_with("HTTP/1.1 503 "));
}
