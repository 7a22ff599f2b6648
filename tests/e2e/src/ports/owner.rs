//! What the owner of a sandbox says about its ports, and what visitors get for it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::Served;
use crate::harness::{Home, Sandbox, needs, run, wait_until};

/// The answer to a request of somebody without a token.
fn stranger(served: &Served<'_>, lines: &str) -> String {
    let host = served.host(3000);
    served.raw(&format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}\r\n"))
}

#[test]
fn flags_make_ports_public_from_the_beginning() {
    needs!("python3");
    let home = Home::new();
    let mask = "localhost:${PORT}";
    let flags = ["--public-port", "3000", "--public-port", "8000", "--auto-resume"];
    let words = [&["create", "--json", "--mask-host", mask], &flags[..]].concat();
    let created: Value = serde_json::from_str(&home.warren(&words).good().text()).expect("JSON");
    assert_eq!(created["public_ports"], json!([3000, 8000]));
    assert_eq!(
        (&created["auto_resume"], &created["mask_request_host"]),
        (&json!(true), &mask.into())
    );
    let id = created["id"].as_str().expect("an id").to_owned();
    let served = Served::of(Sandbox { home: &home, id, created }, "");
    let answer = stranger(&served, "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("GET /x host=localhost:3000"), "{answer}");
    assert_eq!(served.link["token"], Value::Null, "a public port needs none: {}", served.link);
    home.warren(&["pause", &served.sandbox.id]).good();
    assert!(stranger(&served, "").starts_with("HTTP/1.1 200 "), "a visitor wakes it");
    assert_eq!(served.sandbox.get()["state"], "running");
    home.warren(&["port", &served.sandbox.id, "3000", "--private"]).good();
    assert!(stranger(&served, "").starts_with("HTTP/1.1 404 "));
    let bad = home.warren(&["create", "--public-port", "0"]);
    assert!(bad.code() != 0 && bad.errors().contains("--public-port"), "{}", bad.errors());
}

#[test]
fn a_link_ends_with_its_time_and_a_cookie_with_its_link() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let link = |words: &[&str]| -> Value {
        let words = [&["--json", "port", &served.sandbox.id, "3000"], words].concat();
        serde_json::from_str(&home.warren(&words).good().text()).expect("a link")
    };
    let short = link(&["--expires", "2s"]);
    let by = |token: &Value| format!("x-warren-token: {}\r\n", token.as_str().expect("a token"));
    assert!(stranger(&served, &by(&short["token"])).starts_with("HTTP/1.1 200 "));
    wait_until("its time is over", || {
        stranger(&served, &by(&short["token"])).starts_with("HTTP/1.1 401 ")
    });
    // A browser follows a link, and shows the cookie from then on.
    let token = served.token();
    let host = served.host(3000);
    let answer = served.raw(&format!(
        "GET /x?a=b&warren_token={token} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\n\
         connection: close\r\n\r\n"
    ));
    let field = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default()
    };
    let page = format!("http://{host}/x?a=b");
    assert!(answer.starts_with("HTTP/1.1 303 ") && field("location") == page, "{answer}");
    let cookie = field("set-cookie").split(';').next().unwrap_or_default();
    let with = format!("cookie: {cookie}; other=1\r\n");
    assert!(stranger(&served, &with).starts_with("HTTP/1.1 200 "));
    home.warren(&["port", &served.sandbox.id, "3000", "--revoke"]).good();
    assert!(stranger(&served, &with).starts_with("HTTP/1.1 404 "), "it was revoked");
}

#[test]
fn headers_name_a_port_where_names_cannot() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let (id, token) = (&served.sandbox.id, served.token());
    // Each with the status of who is not let in: clients of others know theirs.
    for (sandbox, port, refused) in
        [("Warren-Sandbox", "Warren-Port", "404"), ("E2b-Sandbox-Id", "E2b-Sandbox-Port", "502")]
    {
        for host in ["localhost", "127.0.0.1", "sandbox.localhost"] {
            let head = format!(
                "GET /x HTTP/1.1\r\nhost: {host}\r\n{sandbox}: {id}\r\n{port}: 3000\r\n\
                 connection: close\r\n"
            );
            let answer = served.raw(&format!("{head}x-warren-token: {token}\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
            let answer = served.raw(&format!("{head}\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {refused} ")), "{host}: {answer}");
        }
    }
}

#[test]
fn people_get_a_page_and_programs_json_where_there_is_nothing() {
    needs!("python3");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), "");
    let all = served.sandbox.api("POST", "/links", b"{}").json();
    let token = all["token"].as_str().expect("a token");
    let ask = |host: &str, accept: &str| {
        served.raw(&format!(
            "GET / HTTP/1.1\r\nhost: {host}\r\nx-warren-token: {token}\r\naccept: {accept}\r\n\
             connection: close\r\n\r\n"
        ))
    };
    let unknown = served.host(3000).replace(&served.sandbox.id, "sb-aaaaaaaaaaaaaaaa");
    for (host, status, mark) in
        [(served.host(3999), 502, "port-closed"), (unknown, 404, "not-found")]
    {
        for (accept, kind) in [("*/*", "application/json"), ("text/html", "text/html")] {
            let answer = ask(&host, accept);
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(head.contains(&format!("warren-edge: {mark}")), "{answer}");
            assert!(head.contains(&format!("content-type: {kind}")), "{answer}");
            match kind {
                "text/html" => assert!(body.contains("<!doctype html>"), "{body}"),
                _ => {
                    let error: Value = serde_json::from_str(body).expect("JSON");
                    assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_link_is_opened_in_what_shows_pages_here() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let [said, page] = ["opened", "page"].map(|name| home.file(name, b""));
    let script = format!(
        "#!/bin/sh\ncat \"${{1#file://}}\" > {}\nprintf %s \"$1\" > {}\n",
        page.display(),
        said.display()
    );
    let opener = home.file("xdg-open", script.as_bytes());
    let may_run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&opener, may_run).expect("make it a program");
    let directory = opener.parent().expect("its directory").display();
    let mut port = home.command(&["port", &sandbox.id, "3000", "--open"]);
    let link = run(port.env("PATH", format!("{directory}:/usr/bin:/bin")), b"").good().text();
    let opened = || std::fs::read_to_string(&said).unwrap_or_default();
    wait_until("it is opened", || !opened().is_empty());
    // Every user of the machine reads arguments, and nobody else the file.
    assert!(opened().starts_with("file://") && !opened().contains("wrt_"), "{}", opened());
    let page = std::fs::read_to_string(&page).expect("the page");
    assert!(page.contains(link.trim()), "{page}");
    let mut port = home.command(&["port", &sandbox.id, "3000", "--open"]);
    let none = run(port.env("PATH", "/nowhere"), b"");
    assert!(none.errors().contains("by hand"), "{}", none.errors());
}
