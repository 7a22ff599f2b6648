//! A real server on TCP: keys let in, and revoked ones do not.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::net::UnixStream,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Home, Output, http, kill, wait_until};

/// A server in the foreground that listens on TCP. Dropping it kills it.
pub(crate) struct Listening<'a> {
    home: &'a Home,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl<'a> Listening<'a> {
    pub(crate) fn start(home: &'a Home, arguments: &[&str]) -> Self {
        Self::at(home, "127.0.0.1:0", arguments)
    }

    pub(crate) fn at(home: &'a Home, address: &str, arguments: &[&str]) -> Self {
        let mut serve = home.command(&["serve", "--listen", address]);
        let mut child = serve.args(arguments).stderr(Stdio::piped()).spawn().expect("a server");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).expect("a line"), 0, "it ended: {said}");
            said.push_str(&line);
            let Some((_, rest)) = line.split_once("address=") else { continue };
            break rest.split_whitespace().next().expect("an address").parse().expect("one");
        };
        // Whoever writes to a pipe that nobody reads stops one day.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        let listening = Self { home, child, address };
        // The socket of one that was killed is there too.
        wait_until("it serves", || UnixStream::connect(listening.home.socket()).is_ok());
        listening
    }

    fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> http::Answer {
        let stream = std::net::TcpStream::connect(self.address).expect("a connection");
        let key = key.map_or(String::new(), |key| format!("\r\nauthorization: Bearer {key}"));
        http::send_over(stream, method, path, &format!("application/json{key}"), body)
    }

    /// Runs `warren` as a client of this address.
    fn remote(&self, key: &str, arguments: &[&str]) -> Output {
        let mut warren = self.home.command(arguments);
        warren.env("WARREN_SERVER", format!("http://{}", self.address));
        crate::harness::run(warren.env("WARREN_API_KEY", key), b"")
    }
}

impl Listening<'_> {
    /// Ends it as if by accident; its sandboxes live on.
    pub(crate) fn kill(&mut self) {
        kill(self.child.id());
        drop(self.child.wait());
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.home.warren(&["rm", "--all", "--force"]));
            self.kill();
        }
    }
}

fn new_key(home: &Home, arguments: &[&str]) -> Value {
    let arguments = [&["--json", "key", "create", "test"], arguments].concat();
    serde_json::from_str(&home.warren(&arguments).good().text()).expect("a key")
}

#[test]
fn a_key_lets_in_over_tcp_until_it_is_revoked() {
    let home = Home::new();
    let server = Listening::start(&home, &[]);
    assert_eq!(server.ask("GET", "/v1/health", None, b"").status, 200);
    assert_eq!(server.ask("GET", "/v1/sandboxes", None, b"").status, 401);
    let new = new_key(&home, &[]);
    let key = new["key"].as_str().unwrap();
    let made = server.ask("POST", "/v1/sandboxes", Some(key), b"{}");
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let id = made["id"].as_str().unwrap();
    let exec = json!({"command": ["echo", "from afar"]}).to_string();
    let path = format!("/v1/sandboxes/{id}/exec");
    let outcome = server.ask("POST", &path, Some(key), exec.as_bytes()).json();
    assert_eq!(outcome["stdout"], "from afar\n");

    let run = server.remote(key, &["exec", id, "--", "echo", "by command"]);
    assert_eq!(run.good().text(), "by command\n");
    let image = server.ask("POST", "/v1/sandboxes", Some(key), br#"{"image":"dir:/etc"}"#);
    assert_eq!(image.error_code(), "permission_denied");
    assert_eq!(server.ask("POST", "/v1/shutdown", Some(key), b"").status, 403);
    assert_eq!(server.ask("GET", "/v1/backup", Some(key), b"").status, 403);

    home.warren(&["key", "revoke", new["id"].as_str().unwrap()]).good();
    assert_eq!(server.ask("GET", "/v1/sandboxes", Some(key), b"").status, 401);
    // The sandbox is not the key's: it lives on.
    assert_eq!(home.api("GET", &format!("/v1/sandboxes/{id}"), b"").status, 200);
}

#[test]
fn a_key_outlives_its_server_and_its_project_is_kept_apart() {
    let home = Home::new();
    let key = {
        let server = Listening::start(&home, &[]);
        home.warren(&["project", "create", "team", "--sandboxes", "1"]).good();
        let new = new_key(&home, &["--project", "team"]);
        let key = new["key"].as_str().unwrap().to_owned();
        assert_eq!(server.ask("GET", "/v1/sandboxes", Some(&key), b"").status, 200);
        key
    };
    // That server was killed.
    let server = Listening::start(&home, &[]);
    let own = home.create(&json!({}));
    let path = format!("/v1/sandboxes/{}", own.id);
    assert_eq!(server.ask("GET", &path, Some(&key), b"").status, 404);
    assert_eq!(
        server.ask("POST", &format!("{path}/exec"), Some(&key), br#"{"command":["true"]}"#).status,
        404
    );
    assert_eq!(server.ask("POST", "/v1/sandboxes", Some(&key), b"{}").status, 201);
    let full = server.ask("POST", "/v1/sandboxes", Some(&key), b"{}");
    assert_eq!(full.error_code(), "resource_exhausted", "{}", full.text());
    home.warren(&["--project", "team", "rm", "--all", "--force"]).good();
}

#[test]
fn without_keys_this_machine_alone_is_let_in() {
    let home = Home::new();
    let server = Listening::start(&home, &["--no-auth"]);
    // Its requests say `host: warren`, which is no name of the loopback.
    assert_eq!(server.ask("GET", "/v1/sandboxes", None, b"").error_code(), "permission_denied");
    let listed = server.remote("", &["list", "-q"]);
    assert_eq!(listed.good().text(), "");
}

#[test]
fn a_backup_is_a_file_of_ones_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let copy = home.data().with_file_name("copy.db");
    home.warren(&["backup", copy.to_str().unwrap()]).good();
    let bytes = std::fs::read(&copy).expect("a copy");
    assert!(bytes.starts_with(b"SQLite format 3\0"));
    assert!(bytes.windows(19).any(|window| window == sandbox.id.as_bytes()));
    assert_eq!(copy.metadata().expect("a copy").permissions().mode() & 0o777, 0o600);
    let again = home.warren(&["backup", copy.to_str().unwrap()]);
    assert_eq!(again.code(), 1, "{again:?}");
}
