//! The real server over TLS: certificates of files, of the local authority and of one that speaks
//! ACME, as programs and browsers see them.

mod acme;
mod files;
mod local;

use std::{net::SocketAddr, path::Path};

use serde_json::Value;

use crate::harness::{Home, command, run};

/// A client that checks certificates.
const PROBE: &str = include_str!("tls/probe.py");

/// The program beside this one that asks over TLS, and whom it trusts.
struct Client<'a> {
    authority: &'a Path,
    server: SocketAddr,
}

impl Client<'_> {
    /// What comes of a request to this name: `status`, `body`, `echo` and `serial`, or `error`.
    #[track_caller]
    fn ask(&self, name: &str, path: &str, token: Option<&str>) -> Value {
        let (address, port) = (self.server.ip().to_string(), self.server.port().to_string());
        let mut python = command("python3");
        python.args(["-c", PROBE]).arg(self.authority);
        python.args([&*address, &*port, name, path, token.unwrap_or("-")]);
        let said = run(&mut python, b"").good().text();
        serde_json::from_str(&said).expect("JSON")
    }

    /// The same as a program asks that speaks HTTP/2: the version it came to, and the body.
    #[track_caller]
    fn ask_h2(&self, name: &str, path: &str, token: &str) -> (String, String) {
        let (port, address) = (self.server.port(), self.server.ip());
        let mut curl = command("curl");
        curl.args(["-sS", "--http2", "--max-time", "20", "--cacert"]).arg(self.authority);
        curl.args(["--resolve", &format!("{name}:{port}:{address}")]);
        curl.args(["-H", &format!("x-warren-token: {token}"), "-w", "\n%{http_version}"]);
        let said = run(curl.arg(format!("https://{name}:{port}{path}")), b"").good().text();
        let (body, version) = said.rsplit_once('\n').expect("two lines");
        (version.to_owned(), body.to_owned())
    }
}

/// What opens the ports of a sandbox.
fn token(home: &Home, id: &str) -> String {
    let said = home.api("POST", &format!("/v1/sandboxes/{id}/links"), b"{}").json();
    said["token"].as_str().expect("a token").to_owned()
}

/// What the server warns of, as anybody may ask.
fn warnings(home: &Home) -> String {
    home.api("GET", "/v1/health", b"").json()["warnings"].to_string()
}
