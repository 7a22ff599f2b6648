//! E2B's own clients, as they are published, against a real server: nothing of them is changed, and
//! environment variables alone tell them where to go.
//!
//! `e2b/versions.txt` says which versions; `cargo xtask test` installs them under `target/tools`, and
//! where it could not these tests skip.

mod cli;
mod domain;
mod interpreter;
mod page;
mod wire;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;

use crate::{
    harness::{Home, Output, command, http, run, skip},
    remote::Listening,
};

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/e2b");

/// Packages that belong together.
struct Clients {
    /// The interpreter of an environment with the Python packages.
    python: PathBuf,
    /// A directory with the JavaScript packages in `node_modules`.
    node: PathBuf,
}

impl Clients {
    /// Those of one age; none where they could not be installed.
    fn of(set: &str) -> Option<Self> {
        let [pip, npm] = ["pip", "npm"].map(|manager| tools(&format!("{set}-{manager}")));
        Some(Self { python: pip?.join("bin/python"), node: npm?.join("node_modules") })
    }

    fn python(&self, script: &str) -> Command {
        let mut python = command(&self.python);
        python.arg(Path::new(SCRIPTS).join(script));
        python
    }

    fn node(&self, script: &str) -> Command {
        let mut node = command("node");
        node.arg(Path::new(SCRIPTS).join(script)).env("MODULES", self.node.parent().unwrap());
        node
    }
}

/// A directory of what was installed for these tests, whole.
fn tools(name: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/e2b").join(name);
    tools.join("installed").is_file().then(|| tools.canonicalize().expect("a path"))
}

/// A server that E2B's clients know.
struct Server<'a> {
    _listening: Listening<'a>,
    address: SocketAddr,
    /// An API key in E2B's spelling.
    key: String,
}

impl<'a> Server<'a> {
    fn start(home: &'a Home) -> Self {
        Self::with(home, &[])
    }

    fn with(home: &'a Home, arguments: &[&str]) -> Self {
        let listening = Listening::start(home, arguments);
        let said = home.warren(&["--json", "key", "create", "e2b"]).good().text();
        let made: Value = serde_json::from_str(&said).expect("a key");
        let key = made["key"].as_str().expect("a key").replace("wrn_", "e2b_");
        Self { address: listening.address, _listening: listening, key }
    }

    /// Tells a client where the server is.
    fn told<'b>(&self, client: &'b mut Command) -> &'b mut Command {
        let here = format!("http://{}", self.address);
        client
            .env("E2B_API_URL", format!("{here}/e2b"))
            .env("E2B_SANDBOX_URL", &here)
            .env("E2B_VOLUME_API_URL", format!("{here}/e2b"))
            .env("E2B_API_KEY", &self.key)
            .env("EDGE", self.address.to_string())
            .env("CHECK", SCRIPTS)
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// The control API, as a program without a client asks it.
    #[track_caller]
    fn api(&self, method: &str, path: &str, body: &Value) -> http::Answer {
        let stream = std::net::TcpStream::connect(self.address).expect("a connection");
        let accept = format!("application/json\r\nx-api-key: {}", self.key);
        let body = body.to_string();
        http::send_over(stream, method, &format!("/e2b{path}"), &accept, body.as_bytes())
    }
}

/// Looks at what a script said of its tests, and fails where one of them did.
#[track_caller]
fn passed(name: &str, output: Output) {
    let said = output.text();
    for line in said.lines() {
        println!("{name}: {line}");
    }
    let good = said.lines().any(|line| line.starts_with("ok "));
    assert!(output.status.success() && good, "{name}: {said}\n{}", output.errors());
}

/// Runs all scripts of one age against one server, side by side.
fn all_of(set: &str) {
    let Some(clients) = Clients::of(set) else { skip!("E2B's {set} packages are not installed") };
    let home = Home::new();
    let server = Server::start(&home);
    let scripts = [
        ("suite.py", clients.python("suite.py")),
        ("asynchronous.py", clients.python("asynchronous.py")),
        ("storage.py", clients.python("storage.py")),
        ("suite.mjs", clients.node("suite.mjs")),
    ];
    let outputs = thread::scope(|scope| {
        let running = scripts.map(|(name, mut client)| {
            let place = home.data();
            server.told(&mut client).current_dir(place.parent().expect("a directory"));
            (name, scope.spawn(move || run(&mut client, b"")))
        });
        running.map(|(name, running)| (name, running.join().expect("a script ran")))
    });
    for (name, output) in outputs {
        passed(name, output);
    }
}

#[test]
fn the_newest_packages_work_unchanged() {
    all_of("newest");
}

#[test]
fn older_packages_work_unchanged() {
    all_of("older");
}
