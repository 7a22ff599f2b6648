//! What leaves a sandbox: beside a plain namespace with NAT, on a host with a small internet.
//!
//! The client is one Python program, run in turn in the sandbox and in the namespace; the servers
//! are threads of the benchmark. Processors are shared by all of them, in every row alike.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use warren_test_internet::{Internet, NAME_SERVER, Neighbour};

use super::Bench;
use crate::{
    api,
    http::Client,
    others::command,
    samples::{Unit, timed},
    server::{Pool, Server},
};

const CLIENT: &str = include_str!("egress/client.py");
/// What a plain namespace is called in the rows.
const PLAIN: &str = "plain NAT";

/// A sandbox with a network, and what the rows call it.
struct Kind {
    name: &'static str,
    network: Value,
}

fn rules(allow: &[&str]) -> Value {
    let rule = |to: &&str| json!({"action": "allow", "to": to});
    json!({"rules": allow.iter().map(rule).collect::<Vec<_>>(), "otherwise": "deny"})
}

/// The networks that are compared; one that the server does not know is left out and named.
fn kinds() -> [Kind; 3] {
    [
        Kind { name: "open", network: json!("open") },
        Kind { name: "rules of addresses", network: rules(&["203.0.113.0/24"]) },
        Kind { name: "rules of names", network: rules(&["*.example"]) },
    ]
}

/// What the row with interception is called: every request is decrypted, given a header, and
/// encrypted again for the host.
const INTERCEPTED: &str = "interception";

/// A sandbox whose requests to one host are given a header.
fn intercepted() -> Value {
    let rule = json!({"host": "one.example", "headers": {"x-measured": "yes"}});
    json!({"warm": false, "lifetime_seconds": 3600, "credentials": {"rules": [rule]}})
}

/// Measures all rows about egress.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let internet = Internet::start()?;
    let neighbour = Neighbour::new(&internet)?;
    internet.as_host(|| {
        let name_servers = NAME_SERVER.to_string();
        let place = bench.scratch.join("egress");
        let authority = bench.scratch.join("internet.pem");
        std::fs::write(&authority, internet.authority_pem())?;
        let authority = authority.to_str().context("a scratch directory in UTF-8")?;
        // Where it stands in for a host, the server speaks to the host itself.
        let settings = [("WARREN_NAME_SERVERS", &*name_servers), ("WARREN_EGRESS_CA", authority)];
        let server = Server::start_with(bench.warren, &place, Pool::default(), &settings)?;
        let mut client = server.client()?;
        let mut places = vec![Place::Plain(&neighbour)];
        let open =
            |kind: &Kind| json!({"warm": false, "lifetime_seconds": 3600, "network": kind.network});
        let wanted: Vec<_> = kinds().iter().map(|kind| (kind.name, open(kind))).collect();
        for (kind, body) in wanted.into_iter().chain([(INTERCEPTED, intercepted())]) {
            match client.send("POST", "/v1/sandboxes", body.to_string().as_bytes())?.json() {
                Ok(made) => {
                    places.push(Place::Sandbox { kind, id: api::created(&made)?.0 });
                }
                Err(error) => bench.tell(&format!("egress, {kind}"), Err(error)),
            }
        }
        passing(bench, &mut client, &places)?;
        names(bench, &mut client, &places)?;
        let with_rules = places.iter().any(|place| place.name() == "rules of names");
        drop(places);
        if with_rules {
            changes(bench, &mut client)?;
            creates(bench, &mut client)?;
        }
        Ok(())
    })?
}

/// Where the client runs.
enum Place<'a> {
    Plain(&'a Neighbour),
    Sandbox { kind: &'static str, id: String },
}

impl Place<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => PLAIN,
            Self::Sandbox { kind, .. } => kind,
        }
    }

    /// Runs the client there and gives its samples.
    fn run(&self, client: &mut Client, words: &[&str]) -> Result<Vec<u64>> {
        let line = [&["python3", "-c", CLIENT][..], words].concat();
        let text = match self {
            Self::Plain(neighbour) => neighbour.inside(|| -> Result<String> {
                let mut python = command("/usr/bin/python3");
                let output = python.args(line.get(1..).unwrap_or_default()).output()?;
                if !output.status.success() {
                    bail!("{}", String::from_utf8_lossy(&output.stderr));
                }
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            })??,
            Self::Sandbox { id, .. } => {
                let body = json!({"command": line, "timeout_ms": 120_000}).to_string();
                let path = format!("/v1/sandboxes/{id}/exec");
                let outcome = client.send("POST", &path, body.as_bytes())?.json()?;
                let stdout = outcome.get("stdout").and_then(Value::as_str);
                stdout.filter(|it| !it.is_empty()).with_context(|| outcome.to_string())?.to_owned()
            }
        };
        serde_json::from_str(&text).with_context(|| format!("the client's samples: {text}"))
    }
}

/// Downloads and first bytes. Names are looked up where there are names, so a sandbox asks by
/// name; the plain namespace, which has no name server, by address.
fn passing(bench: &mut Bench<'_>, client: &mut Client, places: &[Place<'_>]) -> Result<()> {
    let (length, rounds) = (bench.size.image_bytes.to_string(), bench.size.samples.div_ceil(10));
    let few = bench.size.samples.to_string();
    for (scheme, port) in [("HTTP", "80"), ("HTTPS", "443")] {
        let bulk = |place: &str| format!("egress, download over {scheme}: {place}");
        let first = |place: &str| format!("egress, connection to first byte, {scheme}: {place}");
        for place in places {
            let name = place.name();
            let target = if name == "open" { ">= 0.9 x plain NAT" } else { "" };
            let target = if name == "rules of names" { ">= 0.9 x open" } else { target };
            bench.figures.declare(&bulk(name), Unit::Throughput, target, "one connection each");
            let target = if name == "rules of names" { "open + 0.3 ms" } else { "" };
            bench.figures.declare(&first(name), Unit::Time, target, "connect, request, one byte");
        }
        // In turn, so that the machine's mood hits all of them alike.
        for _round in 0..rounds.min(10) {
            for place in places {
                let host = host_of(place);
                for sample in place.run(client, &["bulk", &host, port, &length, "1"])? {
                    bench.figures.add(&bulk(place.name()), Unit::Throughput, sample);
                }
            }
        }
        for place in places {
            let samples = place.run(client, &["first", &host_of(place), port, "-", &few])?;
            samples.iter().for_each(|it| bench.figures.add(&first(place.name()), Unit::Time, *it));
        }
    }
    Ok(())
}

/// The same machine by its address in a sandbox where that is enough, so that every row makes the
/// same packets; by its name where rules are about names.
fn host_of(place: &Place<'_>) -> String {
    match place.name() {
        "rules of names" | INTERCEPTED => "one.example".to_owned(),
        _ => Ipv4Addr::new(203, 0, 113, 1).to_string(),
    }
}

/// The resolver beside the name server that it asks itself.
fn names(bench: &mut Bench<'_>, client: &mut Client, places: &[Place<'_>]) -> Result<()> {
    let server = NAME_SERVER.to_string();
    for place in places {
        let (asked, name) = match place {
            Place::Plain(_) => (server.clone(), "the name server itself".to_owned()),
            Place::Sandbox { id, kind } => (gateway(client, id)?, format!("resolver, {kind}")),
        };
        let few = bench.size.samples.to_string();
        for (what, question) in [("known name", "one.example"), ("new name", "*.example")] {
            let row = format!("question about a {what}: {name}");
            bench.figures.declare(&row, Unit::Time, "", "over UDP; new names are of nobody");
            let samples = place.run(client, &["names", &asked, "53", question, &few])?;
            samples.iter().for_each(|it| bench.figures.add(&row, Unit::Time, *it));
        }
    }
    Ok(())
}

/// The name server that a sandbox is told to ask.
fn gateway(client: &mut Client, id: &str) -> Result<String> {
    let body = json!({"command": ["sed", "-n", "s/^nameserver //p", "/etc/resolv.conf"]});
    let path = format!("/v1/sandboxes/{id}/exec");
    let outcome = client.send("POST", &path, body.to_string().as_bytes())?.json()?;
    let said = outcome.get("stdout").and_then(Value::as_str).unwrap_or_default();
    let first = said.lines().next().context("the sandbox has no name server")?;
    Ok(first.to_owned())
}

/// A change of the rules, until the server says that it holds; that it does is tried at the end.
fn changes(bench: &mut Bench<'_>, client: &mut Client) -> Result<()> {
    const CHANGE: &str = "policy change takes effect";
    bench.figures.declare(CHANGE, Unit::Time, "5 ms", "the request is answered when it holds");
    let (id, _) = api::create(client, api::Source::OnDemand)?;
    let networks =
        [rules(&["203.0.113.1"]), rules(&["203.0.113.2", "*.example", "udp://198.51.100.0/24:53"])];
    for network in networks.iter().cycle().take(bench.size.samples) {
        let body = json!({"network": network}).to_string();
        let path = format!("/v1/sandboxes/{id}/network");
        let (took, answer) = timed(|| client.send("PUT", &path, body.as_bytes()))?;
        answer.good()?;
        bench.figures.time(CHANGE, took);
    }
    let place = Place::Sandbox { kind: "changed", id: id.clone() };
    let denied = place.run(client, &["first", "203.0.113.9", "8080", "-", "1"]);
    anyhow::ensure!(denied.is_err(), "a sandbox reaches what its rules deny");
    api::destroy(client, &id)
}

/// Creating with and without rules, in turn.
fn creates(bench: &mut Bench<'_>, client: &mut Client) -> Result<()> {
    let row = |name: &str| format!("create on demand, network: {name}");
    let targets = ["", "open + 0.5 ms", "open + 0.5 ms"];
    for (kind, target) in kinds().iter().zip(targets) {
        bench.figures.declare(&row(kind.name), Unit::Time, target, "to the first answer");
    }
    for _round in 0..bench.size.samples {
        for kind in kinds() {
            let body = json!({"warm": false, "lifetime_seconds": 600, "network": kind.network});
            let body = body.to_string();
            let (took, made) =
                timed(|| client.send("POST", "/v1/sandboxes", body.as_bytes())?.json())?;
            bench.figures.time(&row(kind.name), took);
            api::destroy(client, &api::created(&made)?.0)?;
            // The end of one would be paid for by the next, of another kind.
            super::breathe();
        }
    }
    Ok(())
}
