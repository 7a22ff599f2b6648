//! Who is let in.

use serde_json::Value;
use warren_core::Caller;

use super::{World, field, is};

#[tokio::test]
async fn a_port_is_private_until_a_token_is_shown() {
    let world = World::new().await;
    let token = &world.token;
    is(&world.get("/", "").await, 404);
    is(&world.get("/", "x-warren-token: wrt_3000_0_x\r\n").await, 404);
    is(&world.get("/", &format!("x-warren-token: {token}\r\n")).await, 200);
    is(&world.get(&format!("/a?x=1&warren_token={token}"), "").await, 200);
    assert_eq!(world.backend.last().target, "/a?x=1");
    is(&world.get("/", &format!("cookie: a=b; warren_token={token}\r\n")).await, 200);
    let seen = world.backend.last();
    assert_eq!(seen.headers["cookie"], "a=b");
    for seen in world.backend.seen() {
        let all = format!("{seen:?}");
        assert!(!all.contains("wrt_"), "nothing of the token comes in: {all}");
    }
    // An API key opens nothing here, and no guest ever sees one.
    let key = world.app().project_key("default").await;
    is(&world.get("/", &format!("authorization: Bearer {key}\r\n")).await, 404);
    is(
        &world.let_in("/", &format!("authorization: Bearer {key}\r\nx-api-key: {key}\r\n")).await,
        200,
    );
    let seen = world.backend.last();
    assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("x-api-key"));
    is(&world.let_in("/", "authorization: Bearer of-the-guest\r\n").await, 200);
    assert_eq!(world.backend.last().headers["authorization"], "Bearer of-the-guest");
    world.served.stop().await;
}

#[tokio::test]
async fn unknown_and_private_look_the_same() {
    let world = World::new().await;
    let private = world.get("/", "").await;
    let host = "host: 3000-sb-zzzzzzzzzzzzzzzz.localhost";
    let unknown = format!("GET / HTTP/1.1\r\n{host}\r\nconnection: close\r\n\r\n");
    let unknown = world.raw(&unknown).await;
    let without_date = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("date:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_date(&private), without_date(&unknown));
    let body: Value = serde_json::from_str(is(&private, 404)).unwrap();
    assert_eq!(body["code"], "not_found");
    assert_eq!(field(&private, "warren-edge"), Some("not-found"));
    let page = world.get("/", "accept: text/html\r\n").await;
    assert!(is(&page, 404).starts_with("<!doctype html>"), "{page}");
    world.served.stop().await;
}

#[tokio::test]
async fn a_port_is_public_for_as_long_as_its_owner_says() {
    let world = World::new().await;
    let target = format!("/v1/sandboxes/{}/ports/3000", world.id);
    let made = world.app().ask("PUT", &target, r#"{"public":true}"#).await.expect(200);
    assert_eq!(made["public_ports"], serde_json::json!([3000]));
    is(&world.get("/", "").await, 200);
    is(&world.get("/?warren_token=wrong", "").await, 200);
    assert_eq!(world.backend.last().target, "/");
    let link = format!("/v1/sandboxes/{}/links", world.id);
    let link = world.app().post(&link, r#"{"port":3000}"#).await.expect(200);
    assert_eq!((&link["public"], link.get("token")), (&true.into(), None));
    world.app().ask("PUT", &target, r#"{"public":false}"#).await.expect(200);
    is(&world.get("/", "").await, 404);
    let made = r#"{"public_ports":[3000,8000],"auto_resume":true,"mask_request_host":"a:${PORT}"}"#;
    let made = world.app().post("/v1/sandboxes", made).await.expect(201);
    assert_eq!(made["public_ports"], serde_json::json!([3000, 8000]));
    assert_eq!(made["mask_request_host"], "a:${PORT}");
    for bad in [r#"{"public_ports":[0]}"#, r#"{"mask_request_host":"a b"}"#] {
        world.app().post("/v1/sandboxes", bad).await.refused(400, "invalid_argument");
    }
    world.served.stop().await;
}

#[tokio::test]
async fn a_link_in_a_browser_sets_a_cookie_and_forgets_the_token() {
    let world = World::new().await;
    let target = format!("/app?x=1&warren_token={}", world.token);
    let answer = world.get(&target, "accept: text/html,*/*\r\n").await;
    is(&answer, 303);
    let place = format!("http://{}/app?x=1", world.host());
    assert_eq!(field(&answer, "location"), Some(&*place));
    let cookie = field(&answer, "set-cookie").unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(world.backend.seen().len(), 0, "the guest has not seen it");
    let pair = cookie.split(';').next().unwrap();
    is(&world.get("/app?x=1", &format!("cookie: {pair}\r\n")).await, 200);
    // A page of another sandbox makes the browser send it too, and is not let in.
    let other = "http://3000-sb-bbbbbbbbbbbbbbbb.localhost";
    is(&world.get("/", &format!("cookie: {pair}\r\norigin: {other}\r\n")).await, 404);
    is(&world.get("/", &format!("cookie: {pair}\r\nsec-fetch-site: same-site\r\n")).await, 404);
    let own = format!("http://{}", world.host());
    is(&world.get("/", &format!("cookie: {pair}\r\norigin: {own}\r\n")).await, 200);
    world.served.stop().await;
}

#[tokio::test]
async fn links_end_with_their_time_and_when_they_are_revoked() {
    let world = World::new().await;
    let links = format!("/v1/sandboxes/{}/links", world.id);
    let link = world.app().post(&links, r#"{"port":3000,"expires_seconds":1}"#).await.expect(200);
    assert!(link["expires_at"].is_string(), "{link}");
    let token = link["token"].as_str().unwrap().to_owned();
    let expired = async {
        loop {
            let answer = world.get("/", &format!("x-warren-token: {token}\r\n")).await;
            if !answer.starts_with("HTTP/1.1 200") {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(super::PATIENCE, expired).await.unwrap();
    is(&answer, 401);
    assert_eq!(field(&answer, "warren-edge"), Some("expired"));
    is(&world.let_in("/", "").await, 200);
    world.app().ask("DELETE", &links, "").await.expect(204);
    is(&world.let_in("/", "").await, 404);
    let all = world.app().post(&links, "{}").await.expect(200);
    assert!(all.get("url").is_none(), "{all}");
    let token = all["token"].as_str().unwrap();
    is(&world.get("/", &format!("x-warren-token: {token}\r\n")).await, 200);
    for bad in [r#"{"port":0}"#, r#"{"expires_seconds":0}"#, r#"{"expires_seconds":99999999999}"#] {
        world.app().post(&links, bad).await.refused(400, "invalid_argument");
    }
    world.served.stop().await;
}

#[tokio::test]
async fn only_its_owner_exposes_a_sandbox() {
    let world = World::new().await;
    let other = world.app().as_owner("other").await;
    let base = format!("/v1/sandboxes/{}", world.id);
    for (method, target, body) in [
        ("PUT", "/exposure", r#"{"public_ports":[1]}"#),
        ("PUT", "/ports/3000", r#"{"public":true}"#),
        ("POST", "/links", "{}"),
        ("DELETE", "/links", ""),
    ] {
        let answer = other.ask(method, &format!("{base}{target}"), body).await;
        answer.refused(404, "not_found");
    }
    // A fork has tokens of its own, and nothing public.
    world.expose(r#"{"public_ports":[3000]}"#).await;
    let forks = world.app().post(&format!("{base}/fork"), "{}").await.expect(201);
    let fork = forks["sandboxes"][0]["id"].as_str().unwrap_or_else(|| panic!("{forks}"));
    let fork = world.app().sandboxes_of(fork);
    assert!(fork.exposure.public.is_empty());
    world.served.stop().await;
}

impl crate::app::TestApp {
    fn sandboxes_of(&self, id: &str) -> std::sync::Arc<warren_core::sandbox::Sandbox> {
        self.app.sandboxes().get(&Caller::local(), id).unwrap()
    }
}
