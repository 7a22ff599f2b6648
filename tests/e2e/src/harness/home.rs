//! A data directory with a server of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Leftovers, Output,
    http::{self, Answer},
    process::{command, kill, run},
};

/// A place where a server may live. Dropping it removes all that the server made.
#[derive(Debug)]
pub(crate) struct Home {
    /// What the data directory is on, where that is not the test's own filesystem.
    disk: Option<Disk>,
    directory: TempDir,
    warren: PathBuf,
    settings: Vec<(String, String)>,
    /// The user that everything runs as; the tests' own where `None`.
    uid: Option<u32>,
}

/// A sandbox in a [`Home`].
#[derive(Debug)]
pub(crate) struct Sandbox<'a> {
    pub(crate) home: &'a Home,
    pub(crate) id: String,
    /// The answer to its creation.
    pub(crate) created: Value,
}

impl Home {
    /// An empty place. Nothing is kept ready, so that tests see what they asked for and no more.
    pub(crate) fn new() -> Self {
        Self::with(&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0")])
    }

    /// An empty place with these settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let directory =
            tempfile::Builder::new().prefix("warren-e2e-").tempdir().expect("a directory");
        Self { disk: None, directory, warren: binary(), settings: settings.collect(), uid: None }
    }

    /// An empty place whose data directory has so many bytes and no more; `None` for who may not
    /// mount.
    pub(crate) fn on_disk(bytes: u64, settings: &[(&str, &str)]) -> Option<Self> {
        if !super::is_root() {
            return None;
        }
        let mut home = Self::with(settings);
        let data = home.directory.path().join("data");
        fs::create_dir(&data).expect("make a data directory");
        home.disk = Some(Disk::mount(data, bytes));
        Some(home)
    }

    /// An empty place whose data directory is an ext4 of so many bytes behind a loop device; `None`
    /// where that cannot be.
    pub(crate) fn on_ext4(bytes: u64, settings: &[(&str, &str)]) -> Option<Self> {
        if !super::is_root() || !std::path::Path::new("/dev/loop-control").exists() {
            return None;
        }
        let mut home = Self::with(settings);
        let file = home.directory.path().join("ext4");
        fs::File::create(&file).and_then(|it| it.set_len(bytes)).expect("make a file");
        run(command("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&file), b"").good();
        let data = home.directory.path().join("data");
        fs::create_dir(&data).expect("make a data directory");
        run(command("mount").args(["-o", "loop"]).arg(&file).arg(&data), b"").good();
        home.disk = Some(Disk(data));
        Some(home)
    }

    /// Changes the settings of servers started from now on.
    pub(crate) fn set(&mut self, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.settings = settings.collect();
    }

    /// An empty place of somebody without rights, who has a copy of the binary.
    pub(crate) fn of_user(uid: u32) -> Self {
        let mut home = Self::new();
        let path = home.directory.path().to_owned();
        let copy = path.join("warren");
        // Not by this process: a fork of another test would hold the copy open for writing.
        run(command("cp").arg(&home.warren).arg(&copy), b"").good();
        for path in [path.as_path(), &copy] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("open a path");
        }
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("give the home away");
        home.warren = copy;
        home.uid = Some(uid);
        home
    }

    /// Writes a file beside the data directory that everybody may read.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("open a file");
        path
    }

    /// From now on everything is done with this binary, as after an upgrade.
    pub(crate) fn use_binary(&mut self, warren: PathBuf) {
        self.warren = warren;
    }

    /// The binary that everything is done with.
    pub(crate) fn binary(&self) -> &std::path::Path {
        &self.warren
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        let path = self.directory.path().canonicalize().expect("the home is there");
        path.join("data")
    }

    /// What the servers of this home have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data().join("server.log")).unwrap_or_default()
    }

    /// Where the server's sockets and locks are, by the rule that ARCHITECTURE.md and the command
    /// line share: a name made from the data directory's.
    pub(crate) fn run_directory(&self) -> PathBuf {
        let base = match self.uid.or_else(|| (!super::is_root()).then(own_uid)) {
            None => PathBuf::from("/run/warren"),
            Some(uid) => PathBuf::from(format!("/tmp/warren-{uid}")),
        };
        base.join(self.instance())
    }

    /// What the server's host objects carry in their names.
    pub(crate) fn instance(&self) -> String {
        let path = self.data();
        let hash = path.as_os_str().as_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        format!("{hash:08x}")
    }

    /// Where the API listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_directory().join("api.sock")
    }

    /// A command line of `warren` here, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut warren = match self.uid {
            None => command(&self.warren),
            Some(uid) => {
                let mut setpriv = command("setpriv");
                setpriv.args(["--reuid", &uid.to_string(), "--regid", &uid.to_string()]);
                setpriv.args(["--clear-groups", "--inh-caps=-all", "--"]).arg(&self.warren);
                setpriv
            }
        };
        warren.args(arguments).current_dir("/").env("HOME", self.directory.path());
        warren.env("WARREN_DATA_DIR", self.data());
        warren.envs(self.settings.iter().map(|(name, value)| (name, value)));
        warren
    }

    /// Runs a command line of `warren` to its end.
    #[track_caller]
    pub(crate) fn warren(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments), b"")
    }

    /// The same, with this on standard input.
    #[track_caller]
    pub(crate) fn warren_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(&mut self.command(arguments), input)
    }

    /// Builds the template `t` from a directory, and gives how the build ended.
    #[track_caller]
    pub(crate) fn build(&self, directory: &Path, more: &[&str]) -> Value {
        let directory = directory.to_str().unwrap();
        let mut words = vec!["--json", "template", "build", "--tag", "t", directory];
        words.extend(more);
        let output = self.warren(&words);
        let text = output.text();
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let last = values.map_while(Result::ok).last();
        last.filter(|it| it["type"] == "end").unwrap_or_else(|| panic!("{text}{}", output.errors()))
    }

    /// Sends a request to the server, which must run.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        http::send(&self.socket(), method, path, "application/json", body)
    }

    /// Sends a request with one more header line.
    #[track_caller]
    pub(crate) fn api_with(&self, method: &str, path: &str, header: &str, body: &[u8]) -> Answer {
        let accept = format!("application/json\r\n{header}");
        http::send(&self.socket(), method, path, &accept, body)
    }

    /// Sends a request whose answer is a stream of lines, and gives all of them.
    #[track_caller]
    pub(crate) fn lines(&self, method: &str, path: &str, body: &[u8]) -> String {
        let answer = http::send(&self.socket(), method, path, "application/x-ndjson", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// Sends a request whose answer is a stream, and reads nothing of it.
    #[track_caller]
    pub(crate) fn open(&self, method: &str, path: &str, body: &[u8]) -> BufReader<UnixStream> {
        http::open(&self.socket(), method, path, "application/x-ndjson", body)
    }

    /// The kinds of the events of one sandbox from its first to the one of kind `last`.
    #[track_caller]
    pub(crate) fn events(&self, id: &str, last: &str) -> Vec<String> {
        let path = format!("/v1/events?after=0&sandbox={id}");
        let mut stream = http::open(&self.socket(), "GET", &path, "text/event-stream", b"");
        assert_eq!(http::head(&mut stream).0, 200);
        let mut kinds = Vec::new();
        while kinds.last().map(String::as_str) != Some(last) {
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).expect("an event"), 0, "ended after {kinds:?}");
            let Some(data) = line.strip_prefix("data:") else { continue };
            let event: Value = serde_json::from_str(data).expect("an event's data");
            kinds.push(event["type"].as_str().expect("a type").to_owned());
        }
        kinds
    }

    /// Makes a sandbox with the command line.
    #[track_caller]
    pub(crate) fn create_by_command(&self) -> Sandbox<'_> {
        let said = self.warren(&["create", "--json"]).good().text();
        let created: Value = serde_json::from_str(&said).expect("a sandbox");
        let id = created["id"].as_str().expect("an id").to_owned();
        Sandbox { home: self, id, created }
    }

    /// Makes a sandbox as the request says, through the API. Starts the server if need be.
    #[track_caller]
    pub(crate) fn create(&self, request: &Value) -> Sandbox<'_> {
        if !self.socket().exists() {
            self.warren(&["list"]).good();
        }
        let answer = self.api("POST", "/v1/sandboxes", request.to_string().as_bytes());
        let created = answer.json();
        let id = created["id"].as_str().expect("an id").to_owned();
        Sandbox { home: self, id, created }
    }

    /// The server's process, if one runs.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        let record = fs::read_to_string(self.run_directory().join("lock")).ok()?;
        let pid = record.split_ascii_whitespace().nth(2)?.parse().ok()?;
        super::host::runs(pid).then_some(pid)
    }

    /// Ends the server as if by accident.
    #[track_caller]
    pub(crate) fn kill_server(&self) {
        let pid = self.server_pid().expect("a server runs");
        kill(pid);
        super::wait_until("the server is gone", || !super::host::runs(pid));
    }
}

/// A filesystem in memory. Dropping it takes it away.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    fn mount(place: PathBuf, bytes: u64) -> Self {
        let mut mount = command("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "warren-e2e"]);
        run(mount.arg(&place), b"").good();
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a dying process still holds goes with it.
        drop(command("umount").arg("-l").arg(&self.0).output());
    }
}

impl Sandbox<'_> {
    /// Runs a command through the API and waits for its outcome.
    #[track_caller]
    pub(crate) fn exec(&self, command: &[&str]) -> Value {
        self.exec_as(&json!({"command": command}))
    }

    /// Runs a shell line as root of the sandbox; gives its standard output when it succeeds.
    #[track_caller]
    pub(crate) fn root(&self, line: &str) -> String {
        let outcome = self.exec_as(&json!({"command": ["sh", "-c", line], "user": "root"}));
        assert_eq!(outcome["exit_code"], 0, "{line}: {outcome}");
        outcome["stdout"].as_str().expect("text").to_owned()
    }

    /// Runs what the request says.
    #[track_caller]
    pub(crate) fn exec_as(&self, request: &Value) -> Value {
        self.api("POST", "/exec", request.to_string().as_bytes()).json()
    }

    /// A request about this sandbox; `path` follows its id.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.home.api(method, &format!("/v1/sandboxes/{}{path}", self.id), body)
    }

    /// What the server says about it.
    #[track_caller]
    pub(crate) fn get(&self) -> Value {
        self.api("GET", "", b"").json()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(40);
            println!("the server's log ends with:\n{}", lines[last..].join("\n"));
        }
        let keepers = Leftovers::keepers(self);
        for arguments in [&["rm", "--all", "--force"][..], &["serve", "--stop"]] {
            // A server that a test broke may refuse; the rest is removed below.
            drop(self.command(arguments).output());
        }
        for pid in self.server_pid().into_iter().chain(keepers) {
            kill(pid);
        }
        Leftovers::remove(self);
    }
}

/// The binary under test.
fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "how the runner names the binary")]
    let named = std::env::var_os("TEST_WARREN_BIN").map(PathBuf::from);
    let beside = || {
        let test = std::env::current_exe().expect("the test's own path");
        test.ancestors().nth(2).expect("a target directory").join("warren")
    };
    let binary = named.unwrap_or_else(beside);
    assert!(binary.exists(), "no {}: run `cargo xtask test e2e`", binary.display());
    binary
}

fn own_uid() -> u32 {
    super::host::status_field("Uid:")
}
