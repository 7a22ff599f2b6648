//! Credentials that are set outside, and are nowhere inside.

mod hosts;
mod life;
mod nowhere;
mod proxy;
mod trust;

use serde_json::{Value, json};
use warren_test_internet::Request;

use crate::harness::{Sandbox, World, run};

/// What must not be found. Programs inside are told its halves.
const HALVES: [&str; 2] = ["warren-s3cr3t-", "0f1e2d3c4b5a6978"];

fn value() -> String {
    HALVES.concat()
}

fn bearer() -> String {
    format!("Bearer {}", value())
}

/// Has the server keep the secret, as `TOKEN`.
#[track_caller]
fn keep(world: &World<'_>) {
    let mut set = world.home.command(&["secret", "set", "TOKEN"]);
    run(&mut set, value().as_bytes()).good();
}

/// The rule that gives it to `one.example`, with what else there is in it.
fn rule(more: &Value) -> Value {
    let mut rule = json!({
        "host": "one.example",
        "headers": {"authorization": "Bearer {{secret:TOKEN}}"},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

/// A sandbox that reaches everything, with this rule.
#[track_caller]
fn with_rule<'a>(world: &'a World<'_>, rule: &Value) -> Sandbox<'a> {
    keep(world);
    world.home.create(&json!({"credentials": {"rules": [rule]}}))
}

/// The same with the rule as it is.
#[track_caller]
fn with_credentials<'a>(world: &'a World<'_>) -> Sandbox<'a> {
    with_rule(world, &rule(&json!({})))
}

/// The last request that arrived for a host.
#[track_caller]
fn arrived(world: &World<'_>, host: &str) -> Request {
    let all = world.internet.seen().requests();
    let of_host = |it: &&Request| {
        it.header("host") == Some(host) || it.target.starts_with(&format!("https://{host}/"))
    };
    all.iter().rfind(of_host).unwrap_or_else(|| panic!("nothing came for {host}: {all:?}")).clone()
}

/// What the last request for a host was given.
#[track_caller]
fn given(world: &World<'_>, host: &str) -> Option<String> {
    arrived(world, host).header("authorization").map(str::to_owned)
}

impl Sandbox<'_> {
    /// Changes what its requests are given.
    #[track_caller]
    fn set_credentials(&self, credentials: &Value) -> Value {
        self.api("PUT", "/credentials", credentials.to_string().as_bytes()).json()
    }

    /// Who signed for a host, as a client inside sees it.
    #[track_caller]
    fn issuer(&self, host: &str) -> String {
        self.root(&format!(
            "openssl s_client -connect {host}:443 -servername {host} < /dev/null 2> /dev/null \
             | openssl x509 -noout -issuer"
        ))
    }
}
