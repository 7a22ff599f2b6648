//! Domains of callers: they lead to one port each, and to nothing else.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_server::{CertificateReport, CertificateSource, CertificateState};

use super::{World, is, read_head};
use crate::tcp::PATIENCE;

const NAME: &str = "app.example.com";

/// Lets the domain lead to the world's port.
async fn lead(world: &World, public: bool) {
    let body = json!({"sandbox": world.id, "port": 3000, "public": public, "unchecked": true});
    let path = format!("/v1/domains/{NAME}");
    world.app().ask("PUT", &path, &body.to_string()).await.expect(200);
}

async fn get(world: &World, host: &str, target: &str, lines: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}\r\n");
    world.raw(&head).await
}

#[tokio::test]
async fn a_domain_leads_to_its_port_as_long_as_it_is_there() {
    let world = World::new().await;
    assert!(get(&world, NAME, "/x", "").await.starts_with("HTTP/1.1 401 "), "the API, as yet");
    lead(&world, false).await;
    is(&get(&world, NAME, "/x", "").await, 404);
    let token = format!("x-warren-token: {}\r\n", world.token);
    is(&get(&world, NAME, "/x", &token).await, 200);
    // A page there speaks with the cookie of its own name, and no other page does.
    let cookie = format!("cookie: warren_token={}\r\norigin: https://{NAME}\r\n", world.token);
    is(&get(&world, NAME, "/x", &cookie).await, 200);
    let strange = cookie.replace(NAME, "other.example.com");
    is(&get(&world, NAME, "/x", &strange).await, 404);
    lead(&world, true).await;
    is(&get(&world, "App.Example.Com.:443", "/v1/sandboxes", "").await, 200);
    is(&world.get("/x", "").await, 404);
    world.app().ask("DELETE", &format!("/v1/domains/{NAME}"), "").await.expect(204);
    is(&get(&world, NAME, "/x", "").await, 401);
    world.served.stop().await;
}

#[tokio::test]
async fn strangers_learn_nothing_more_than_that_nothing_listens() {
    let world = World::new().await;
    world.app().runtime.set_port(3000, None);
    lead(&world, true).await;
    let closed = get(&world, NAME, "/x", "").await;
    let body: Value = serde_json::from_str(is(&closed, 502)).unwrap();
    assert_eq!(body["details"], Value::Null, "{closed}");
    world.served.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_name_leads_nobody_there_any_more() {
    let world = World::new().await;
    lead(&world, true).await;
    let mut stream = world.served.connect().await;
    let head = format!(
        "GET /socket HTTP/1.1\r\nhost: {NAME}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").unwrap();
    lead(&world, false).await;
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut back)).await.expect("in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    world.served.stop().await;
}

/// Certificates of which one fails, and a challenge.
#[derive(Debug)]
struct Failing;

impl CertificateSource for Failing {
    fn report(&self) -> CertificateReport {
        let failed = CertificateState {
            names: vec![NAME.to_owned()],
            until: None,
            ending: false,
            failure: Some("it rained".to_owned()),
        };
        CertificateReport { ordered: vec![failed], file: None, failures: 3 }
    }

    fn challenge(&self, token: &str) -> Option<String> {
        (token == "ours").then(|| "ours.thumb".to_owned())
    }
}

#[tokio::test]
async fn challenges_of_ours_are_answered_and_others_go_to_the_port() {
    let world = World::new().await;
    lead(&world, true).await;
    world.app().app.certificates_from(Failing);
    const PATH: &str = "/.well-known/acme-challenge/";
    let answer = get(&world, NAME, &format!("{PATH}ours"), "").await;
    assert_eq!(is(&answer, 200), "ours.thumb");
    let theirs = get(&world, NAME, &format!("{PATH}theirs"), "").await;
    assert_ne!(is(&theirs, 200), "ours.thumb", "the port has answered");
    is(&get(&world, "127.0.0.1", &format!("{PATH}theirs"), "").await, 401);
    // What fails is told to anybody without the name, and to its owner with it.
    let health = world.app().get("/v1/health").await.expect(200);
    assert_eq!(health["status"], "ok");
    let warnings = health["warnings"].to_string();
    assert!(warnings.contains("could not be had") && !warnings.contains(NAME), "{warnings}");
    let domain = world.app().get(&format!("/v1/domains/{NAME}")).await.expect(200);
    assert_eq!(domain["certificate"]["failure"], "it rained", "{domain}");
    let metrics = world.app().get("/v1/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body);
    assert!(metrics.contains("warren_certificates{state=\"missing\"} 1"), "{metrics}");
    assert!(metrics.contains("warren_certificate_failures_total 3"), "{metrics}");
    world.served.stop().await;
}
