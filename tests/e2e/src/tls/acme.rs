//! Certificates of Let's Encrypt's authority for tests, on a host with a small internet.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use warren_test_internet::{HOST, NAME_SERVER, Pebble, PebbleOptions};

use super::{Client, token, warnings};
use crate::{
    harness::{World, command, in_world, needs, run, skip, wait_at_most, wait_until},
    ports::serving,
    remote::Listening,
};

/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What changes records: what the name server says as text is in files.
///
/// While there is a file `hold` it does not come to its end.
const HOOK: &str = r#"#!/bin/sh
cd RECORDS || exit 1
case "$1" in
add) echo "$3" >> "$2"
     while [ -e ../hold ]; do : > ../held; sleep 0.05; done ;;
remove) grep -v -x -e "$3" "$2" > "$2.new"; mv "$2.new" "$2" ;;
esac
"#;

/// An authority, the records of a zone, and settings of a server that orders there.
struct Orders<'a> {
    world: &'a World<'a>,
    directory: tempfile::TempDir,
    pebble: Pebble,
}

impl<'a> Orders<'a> {
    /// Certificates are good for so many seconds; none where the authority is not installed.
    fn start(world: &'a World<'a>, life_seconds: u32) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let options = PebbleOptions {
            names: SocketAddr::new(NAME_SERVER.into(), 53),
            ports: Some([80, 443]),
            life_seconds,
        };
        let pebble = Pebble::start(directory.path(), &options).expect("an authority")?;
        let zone = world.internet.zone();
        let records = directory.path().join("records");
        fs::create_dir(&records).expect("a directory");
        let hook = directory.path().join("hook");
        fs::write(&hook, HOOK.replace("RECORDS", records.to_str().expect("UTF-8")))
            .expect("a hook");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).expect("a program");
        zone.say_texts_of(records);
        zone.serve_zone("box.example", "ns.box.example");
        for name in ["box.example", "app.example.com", "late.example.com"] {
            zone.set(name, &[HOST.into()]);
        }
        Some(Self { world, directory, pebble })
    }

    /// A server for `names`, which are proved in this way.
    fn serve(&self, proof: &str, names: &str) -> Listening<'a> {
        let hook = self.path("hook");
        let settings = [
            "domain=box.example".to_owned(),
            "tls=acme".to_owned(),
            "acme_terms_agreed=true".to_owned(),
            format!("tls_names={names}"),
            format!("acme_directory={}", self.pebble.url()),
            format!("acme_roots={}", self.pebble.roots().display()),
            format!("acme_proof={proof}"),
            format!("acme_dns_hook={}", hook.display()),
            "acme_http_listen=0.0.0.0:80".to_owned(),
        ];
        let arguments: Vec<&str> = settings.iter().flat_map(|it| ["--set", it.as_str()]).collect();
        Listening::at(&self.world.home, "0.0.0.0:443", &arguments)
    }

    /// The authority of the certificates that are given.
    fn issuer(&self) -> PathBuf {
        let file = self.path("issuer.pem");
        let mut curl = command("curl");
        curl.args(["-sS", "--cacert"]).arg(self.pebble.roots()).arg("-o").arg(&file);
        run(curl.arg(self.pebble.issuer_url()), b"").good();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn record(&self, name: &str) -> String {
        fs::read_to_string(self.path("records").join(name)).unwrap_or_default()
    }

    /// Waits until this name has a certificate, and gives what is answered then.
    #[track_caller]
    fn certified(&self, client: &Client<'_>, name: &str, path: &str) -> Value {
        let mut last = Value::Null;
        wait_at_most(PATIENCE, "there is a certificate", || {
            last = client.ask(name, path, None);
            last["error"].is_null()
        });
        last
    }
}

fn client(authority: &Path) -> Client<'_> {
    Client { authority, server: SocketAddr::new(HOST.into(), 443) }
}

macro_rules! orders {
    ($world:expr, $life:expr) => {
        match Orders::start($world, $life) {
            Some(orders) => orders,
            None => skip!("pebble is not installed and could not be built"),
        }
    };
}

/// Every file is its owner's alone.
fn private(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        if path.is_dir() {
            private(&path);
        }
    }
}

#[test]
fn a_wildcard_and_a_domain_are_certified_once_also_by_a_server_that_was_killed() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let orders = orders!(world, 90 * 24 * 3600);
        let home = &world.home;
        let issuer = orders.issuer();
        let client = client(&issuer);
        let names = "box.example,*.box.example";

        // Killed amid the order: the record stays in the zone, and the next server takes it out.
        fs::write(orders.path("hold"), "").expect("a file");
        let mut server = orders.serve("dns", names);
        wait_until("the program is at it", || orders.path("held").exists());
        server.kill();
        fs::remove_file(orders.path("hold")).expect("remove a file");
        assert_eq!(orders.record("_acme-challenge.box.example").lines().count(), 1);
        let mut server = orders.serve("dns", names);
        let sandbox = serving(home, &json!({}), "");
        let port = format!("3000-{}.box.example", sandbox.id);
        orders.certified(&client, &port, "/x");
        wait_until("records are removed", || {
            orders.record("_acme-challenge.box.example").is_empty()
        });
        assert_eq!(orders.pebble.orders(), 2, "the one that was killed, and another");
        let token = token(home, &sandbox.id);
        let page = client.ask(&port, "/x", Some(&token));
        assert_eq!(page["body"], format!("GET /x host={port}:443"), "{page}");
        assert_eq!(client.ask(&port, "/socket", Some(&token))["echo"], "hi");
        assert_eq!(client.ask_h2(&port, "/y", &token).0, "2");
        private(&home.data().join("tls"));

        // The next server has it, and orders nothing.
        let serial = page["serial"].clone();
        server.kill();
        let server = orders.serve("dns", names);
        assert_eq!(orders.certified(&client, &port, "/x")["serial"], serial);

        domain(&orders, &client, (&sandbox.id, &port));
        drop(server);
    });
}

/// A domain of a caller's: nothing before it was shown whose it is, then a certificate of its own.
fn domain(orders: &Orders<'_>, client: &Client<'_>, (id, port): (&str, &str)) {
    let (home, name) = (&orders.world.home, "app.example.com");
    let before = orders.pebble.orders();
    let found = client.ask(name, "/", None);
    assert!(found["error"].is_string(), "a stranger's name: {found}");
    let said = home.warren(&["domain", "add", name, id, "3000", "--public"]).good().text();
    let text = said.split('"').nth(1).expect("a record").to_owned();
    let unproved = home.warren(&["domain", "verify", name]);
    assert!(unproved.code() != 0 && unproved.errors().contains(&text), "{unproved:?}");
    assert!(client.ask(name, "/", None)["error"].is_string(), "not yet");
    assert_eq!(orders.pebble.orders(), before, "nobody orders because somebody asks");
    let record = orders.path("records").join(format!("_warren.{name}"));
    fs::write(record, format!("{text}\n")).expect("a record");
    home.warren(&["domain", "verify", name]).good();
    let page = orders.certified(client, name, "/x");
    assert_eq!(page["body"], format!("GET /x host={name}:443"), "{page}");
    assert_eq!(client.ask(name, "/socket", None)["echo"], "hi");
    // What is the API elsewhere is the port's here.
    let api = client.ask(name, "/v1/sandboxes", None);
    assert_eq!(api["body"], format!("GET /v1/sandboxes host={name}:443"), "{api}");
    assert_eq!(orders.pebble.orders(), before + 1);
    let listed = home.warren(&["--json", "domain", "list"]).good().text();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed["domains"][0]["certificate"]["expires_at"].is_string(), "{listed}");
    home.warren(&["domain", "rm", name]).good();
    wait_until("it leads nowhere", || client.ask(name, "/x", None)["error"].is_string());
    assert_eq!(client.ask(port, "/x", None)["status"], 404, "the other name is as it was");
}

#[test]
fn certificates_are_renewed_and_what_fails_is_told_while_the_old_one_goes_on() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let orders = orders!(world, 15);
        let home = &world.home;
        let issuer = orders.issuer();
        let client = client(&issuer);
        let server = orders.serve("http", "box.example");
        let first = orders.certified(&client, "box.example", "/v1/health");
        assert_eq!(first["status"], 200, "{first}");
        redirects(orders.path("head"));
        assert_eq!(warnings(home), "null");
        let mut second = Value::Null;
        wait_at_most(PATIENCE, "it is renewed", || {
            second = client.ask("box.example", "/v1/health", None);
            second["error"].is_null() && second["serial"] != first["serial"]
        });

        // Without the authority the certificate that there is goes on.
        let sandbox = serving(home, &json!({}), "");
        drop(orders.pebble);
        wait_at_most(PATIENCE, "it is told", || warnings(home).contains("could not be had"));
        let found = client.ask("box.example", "/v1/health", None);
        assert_eq!(found["serial"], second["serial"], "{found}");
        let add = ["domain", "add", "late.example.com", &sandbox.id, "3000", "--unchecked"];
        home.warren(&add).good();
        home.events(&sandbox.id, "certificate.failed");
        let listed = home.warren(&["domain", "list"]).good().text();
        assert!(listed.contains("no certificate: failed"), "{listed}");
        wait_at_most(PATIENCE, "its end is near", || warnings(home).contains("its end soon"));
        let metrics = home.api("GET", "/v1/metrics", b"").text();
        assert!(metrics.contains("warren_certificates{state=\"failing\"} 2"), "{metrics}");
        drop(server);
    });
}

/// Whatever is no challenge of ours goes to TLS, with all that it had.
fn redirects(head: PathBuf) {
    for path in ["/a?b=c", "/.well-known/acme-challenge/theirs"] {
        let mut curl = command("curl");
        curl.args(["-sS", "--max-time", "20", "-o", "/dev/null", "-D"]).arg(&head);
        curl.args(["--resolve", &format!("app.example.com:80:{HOST}")]);
        run(curl.arg(format!("http://app.example.com{path}")), b"").good();
        let said = fs::read_to_string(&head).expect("a head").to_ascii_lowercase();
        assert!(said.contains(&format!("location: https://app.example.com{path}\r\n")), "{said}");
    }
}

#[test]
fn a_name_is_proved_in_the_handshake_and_that_protocol_opens_nothing() {
    needs!("python3");
    needs!("curl");
    needs!("openssl");
    in_world(|world| {
        let orders = orders!(world, 90 * 24 * 3600);
        let issuer = orders.issuer();
        let client = client(&issuer);
        let _server = orders.serve("tls", "box.example");
        let found = orders.certified(&client, "box.example", "/v1/health");
        assert_eq!(found["status"], 200, "{found}");
        // The protocol of challenges is for challenges: it opens nothing.
        let mut openssl = command("openssl");
        openssl.args(["s_client", "-connect", &format!("{HOST}:443"), "-alpn", "acme-tls/1"]);
        openssl.args(["-servername", "box.example"]);
        let said = run(&mut openssl, b"GET /v1/health HTTP/1.1\r\n\r\n");
        assert!(!said.stdout.windows(9).any(|it| it == b"HTTP/1.1 "), "{said:?}");
        assert_eq!(orders.pebble.orders(), 1);
    });
}
