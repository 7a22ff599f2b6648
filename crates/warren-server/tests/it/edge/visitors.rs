//! Sandboxes that do not run, ports that do not listen, and names that are none.

use serde_json::Value;
use warren_core::{Caller, state::State};
use warren_server::{Access, Config};

use super::{World, field, is};
use crate::tcp::{Served, ask};

#[tokio::test]
async fn a_paused_sandbox_is_woken_by_those_who_may() {
    let world = World::new().await;
    let local = Caller::local();
    let sandboxes = world.app().app.sandboxes().clone();
    let state = || sandboxes.get(&local, &world.id).unwrap().state;
    world.expose(r#"{"public_ports":[3000]}"#).await;
    is(&world.get("/", "").await, 200);
    let dialled = world.app().runtime.dialled();
    sandboxes.pause(&local, &world.id).await.unwrap();
    // A stranger at a public port does not keep it awake.
    let answer = world.get("/", "").await;
    is(&answer, 503);
    assert_eq!(field(&answer, "warren-edge"), Some("paused"));
    assert_eq!((state(), world.app().runtime.dialled()), (State::Paused, dialled));
    // Whoever has a token does, and many at once do no harm.
    let many = (0..8).map(|_| world.let_in("/", ""));
    for answer in futures::future::join_all(many).await {
        is(&answer, 200);
    }
    assert_eq!(state(), State::Running);
    world.expose(r#"{"auto_resume":true}"#).await;
    sandboxes.pause(&local, &world.id).await.unwrap();
    is(&world.get("/", "").await, 200);
    world.served.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_apart() {
    let world = World::new().await;
    world.app().runtime.set_port(3000, None);
    let closed = world.let_in("/", "").await;
    let body: Value = serde_json::from_str(is(&closed, 502)).unwrap();
    assert_eq!((&body["code"], &body["details"]["port"]), (&"unavailable".into(), &3000.into()));
    assert_eq!(field(&closed, "warren-edge"), Some("port-closed"));
    let page = world.let_in("/", "accept: text/html\r\n").await;
    assert!(is(&page, 502).contains("http-equiv=\"refresh\""), "{page}");
    let (nonsense, _) = super::backend::raw("what?\r\n\r\n").await;
    world.app().runtime.set_port(3000, Some(nonsense));
    let broken = world.let_in("/", "").await;
    is(&broken, 502);
    assert_eq!(field(&broken, "warren-edge"), Some("bad-answer"));
    let local = Caller::local();
    world.app().app.sandboxes().stop(&local, &world.id).await.unwrap();
    let stopped = world.let_in("/", "").await;
    is(&stopped, 503);
    assert_eq!(field(&stopped, "warren-edge"), Some("stopped"));
    world.app().ask("DELETE", &format!("/v1/sandboxes/{}", world.id), "").await.expect(204);
    is(&world.let_in("/", "").await, 404);
    world.served.stop().await;
}

#[tokio::test]
async fn headers_name_a_port_and_answers_are_as_others_have_them() {
    let world = World::new().await;
    let ask = async |names: [&str; 2], id: &str| {
        let (token, [name, port]) = (&world.token, names);
        let lines = format!("{name}: {id}\r\n{port}: 3000\r\nx-warren-token: {token}\r\n");
        let head = "GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n";
        world.raw(&format!("{head}{lines}\r\n")).await
    };
    let (ours, theirs) =
        (["warren-sandbox", "warren-port"], ["e2b-sandbox-id", "e2b-sandbox-port"]);
    is(&ask(ours, &world.id).await, 200);
    is(&ask(theirs, &format!("{}-00000000", world.id)).await, 200);
    let seen = world.backend.last();
    assert!(!seen.headers.keys().any(|name| name.contains("sandbox")), "{seen:?}");
    let unknown = ask(theirs, "sb-zzzzzzzzzzzzzzzz").await;
    let body: Value = serde_json::from_str(is(&unknown, 502)).unwrap();
    assert_eq!(body["message"], "The sandbox was not found");
    is(&ask(ours, "sb-zzzzzzzzzzzzzzzz").await, 404);
    let one = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nwarren-port: 1\r\n\r\n";
    is(&world.raw(one).await, 400);
    world.served.stop().await;
}

#[tokio::test]
async fn the_api_is_never_served_under_the_name_of_a_port() {
    let world = World::new().await;
    let key = world.app().project_key("default").await;
    let with_key = format!("authorization: Bearer {key}\r\n");
    // The guest answers what is the API's elsewhere.
    let answer = world.let_in("/v1/sandboxes", &with_key).await;
    assert_eq!(is(&answer, 200), "/v1/sandboxes");
    let ask_host = async |host: &str| {
        let head = "GET /v1/sandboxes HTTP/1.1\r\nconnection: close\r\n";
        world.raw(&format!("{head}host: {host}\r\n{with_key}\r\n")).await
    };
    for host in ["anything.localhost", "0-sb-aaaaaaaaaaaaaaaa.localhost", "sb-a.localhost"] {
        is(&ask_host(host).await, 404);
    }
    is(&ask_host("3000-sb-aaaaaaaaaaaaaaaa.elsewhere.example").await, 421);
    is(&ask_host("sandbox.localhost").await, 400);
    for host in ["localhost", "api.localhost", "127.0.0.1", "box.example"] {
        is(&ask_host(host).await, 200);
    }
    world.served.stop().await;
}

#[tokio::test]
async fn a_listener_for_ports_alone_serves_no_api() {
    let served = Served::with_access(Config::default(), None, Access::Ports).await;
    let key = served.app.project_key("default").await;
    for target in ["/v1/health", "/v1/sandboxes", "/"] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\
             connection: close\r\n\r\n"
        );
        let answer = ask(&served, &request).await;
        is(&answer, 404);
        assert_eq!(field(&answer, "warren-edge"), Some("ports-only"));
    }
    served.stop().await;
}

#[tokio::test]
async fn a_link_is_where_the_caller_has_come_from() {
    let world = World::new().await;
    let key = world.app().project_key("default").await;
    let body = r#"{"port":3000}"#;
    let request = format!(
        "POST /v1/sandboxes/{}/links HTTP/1.1\r\nhost: box.example:8443\r\nx-api-key: {key}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        world.id,
        body.len()
    );
    let link: Value = serde_json::from_str(is(&world.raw(&request).await, 200)).unwrap();
    assert_eq!(link["url"], format!("http://3000-{}.localhost:8443/", world.id));
    // On the unix socket it is that of the first listener.
    let links = format!("/v1/sandboxes/{}/links", world.id);
    let link = world.app().post(&links, body).await.expect(200);
    let port = world.served.address.port();
    assert_eq!(link["url"], format!("http://3000-{}.localhost:{port}/", world.id));
    let token = link["token"].as_str().unwrap();
    let url = link["url"].as_str().unwrap();
    assert_eq!(link["link"], format!("{url}?warren_token={token}"));
    world.served.stop().await;
}
