//! Repositories behind `git http-backend`, on loopback.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::harness::{command, run};

/// What opens it. Programs inside are told its halves.
pub(super) const TOKEN: &str = "warren-g1t-t0ken-5f4e3d2c1b0a";

/// A server with one repository, `team/agent.git`, whose default branch is `trunk`, and another one
/// that the token opens as well, `team/other.git`.
pub(super) struct Remote {
    place: tempfile::TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    root: PathBuf,
    /// Connections are closed at once.
    down: AtomicBool,
    ended: AtomicBool,
    /// Whether answers are held back, and what is told when that changes.
    held: Mutex<bool>,
    let_go: Condvar,
    /// First lines of requests, in their order.
    seen: Mutex<Vec<String>>,
}

impl Remote {
    pub(super) fn start() -> Self {
        let place = tempfile::Builder::new().prefix("warren-e2e-git-").tempdir().expect("a place");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { root: place.path().to_owned(), ..Shared::default() });
        let remote = Self { place, address, shared };
        for name in ["team/agent.git", "team/other.git"] {
            let path = remote.place.path().join(name);
            let path = path.to_str().unwrap();
            git(remote.place.path(), &["init", "-q", "--bare", "--initial-branch=trunk", path]);
            git(Path::new(path), &["config", "http.receivepack", "true"]);
            git(Path::new(path), &["config", "receive.advertisePushOptions", "true"]);
        }
        remote.commit("trunk", "README", "first\n");
        let shared = Arc::clone(&remote.shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), false) = (stream, shared.down.load(Ordering::SeqCst)) else {
                    continue;
                };
                let shared = Arc::clone(&shared);
                // Who leaves early is nobody's failure.
                thread::spawn(move || serve(&shared, stream));
            }
        });
        remote
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/team/agent.git", self.address)
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("team/agent.git")
    }

    /// Commits a file to a branch, as somebody else would.
    pub(super) fn commit(&self, branch: &str, file: &str, content: &str) {
        let place = tempfile::tempdir().expect("a place");
        let (tree, bare) = (place.path(), self.path());
        git(tree, &["init", "-q", "--initial-branch=x"]);
        let full = format!("refs/heads/{branch}");
        let bare = bare.to_str().unwrap();
        if !git(tree, &["ls-remote", bare, &full]).is_empty() {
            git(tree, &["fetch", "-q", bare, &full]);
            git(tree, &["reset", "-q", "--hard", "FETCH_HEAD"]);
        }
        fs::write(tree.join(file), content).expect("write a file");
        git(tree, &["add", "--all"]);
        git(tree, &["commit", "-q", "-m", &format!("change {file}")]);
        git(tree, &["push", "-q", bare, &format!("HEAD:{full}")]);
    }

    /// What a branch has in a file; fails the test where it has none.
    #[track_caller]
    pub(super) fn file(&self, branch: &str, file: &str) -> String {
        git(&self.path(), &["show", &format!("refs/heads/{branch}:{file}")])
    }

    /// Whether a branch has a file.
    pub(super) fn has(&self, branch: &str, file: &str) -> bool {
        let listed =
            git(&self.path(), &["ls-tree", "--name-only", &format!("refs/heads/{branch}")]);
        listed.lines().any(|line| line == file)
    }

    /// A clone below a directory, with what a bundle has.
    pub(super) fn clone_with(&self, place: &Path, bundle: &str) -> Clone {
        let tree = place.join("clone");
        git(place, &["clone", "-q", self.path().to_str().unwrap(), tree.to_str().unwrap()]);
        git(&tree, &["fetch", "-q", bundle, "refs/*:refs/rescue/*"]);
        Clone(tree)
    }

    pub(super) fn branches(&self) -> Vec<String> {
        let listed =
            git(&self.path(), &["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The commit that a branch is at.
    #[track_caller]
    pub(super) fn tip(&self, branch: &str) -> String {
        git(&self.path(), &["rev-parse", &format!("refs/heads/{branch}")])
    }

    /// A hook of the server.
    pub(super) fn hook(&self, name: &str, script: &str) {
        let path = self.path().join("hooks").join(name);
        fs::write(&path, script).expect("write a hook");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set its mode");
    }

    pub(super) fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Holds answers back, or no more.
    pub(super) fn hold(&self, held: bool) {
        *self.shared.held.lock().unwrap() = held;
        self.shared.let_go.notify_all();
    }

    /// First lines of requests with a good token.
    pub(super) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.hold(false);
        // Whoever waits for a connection gets one.
        drop(TcpStream::connect(self.address));
    }
}

/// Somebody's clone.
pub(super) struct Clone(PathBuf);

impl Clone {
    /// What a revision has in a file.
    #[track_caller]
    pub(super) fn show(&self, what: &str) -> String {
        git(&self.0, &["show", what])
    }
}

#[track_caller]
fn git(at: &Path, words: &[&str]) -> String {
    let mut git = command("git");
    git.args(["-c", "user.name=Somebody", "-c", "user.email=somebody@git.example"]);
    git.args(["-c", "safe.directory=*"]).args(words).current_dir(at);
    git.env("HOME", at).env("GIT_CONFIG_NOSYSTEM", "1");
    run(&mut git, b"").good().text().trim().to_owned()
}

/// A request, its body undone from chunks.
struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, query, headers, body: Vec::new() };
    if request.header("transfer-encoding") == "chunked" {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            request.body.extend_from_slice(&chunk[..size]);
        }
    } else {
        request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

fn serve(shared: &Shared, stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut to = stream.try_clone().ok()?;
    let request = read(&mut BufReader::new(stream))?;
    let good = BASE64_STANDARD.encode(format!("x-access-token:{TOKEN}"));
    if request.header("authorization") != format!("Basic {good}") {
        let head = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"git\"\r\n";
        return to
            .write_all(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
            .ok();
    }
    let line = format!("{} {}?{}", request.method, request.path, request.query);
    shared.seen.lock().unwrap().push(line);
    drop(shared.let_go.wait_while(shared.held.lock().unwrap(), |held| *held).unwrap());
    let mut backend = command("git");
    backend.args(["-c", "safe.directory=*", "http-backend"]);
    for (name, value) in [
        ("GIT_PROJECT_ROOT", shared.root.to_str()?),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("HOME", shared.root.to_str()?),
        ("GIT_PROTOCOL", request.header("git-protocol")),
        ("REQUEST_METHOD", &request.method),
        ("PATH_INFO", &request.path),
        ("QUERY_STRING", &request.query),
        ("CONTENT_TYPE", request.header("content-type")),
        ("HTTP_CONTENT_ENCODING", request.header("content-encoding")),
        ("CONTENT_LENGTH", &request.body.len().to_string()),
        ("REMOTE_USER", "tests"),
    ] {
        backend.env(name, value);
    }
    backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = backend.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let feed = thread::spawn(move || drop(stdin.write_all(&request.body)));
    let output = child.wait_with_output().ok()?.stdout;
    feed.join().ok()?;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let (status, rest): (Vec<_>, Vec<_>) =
        head.lines().partition(|line| line.starts_with("Status: "));
    let status = status.first().and_then(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    let body = &output[end + 4..];
    let headers: String = rest.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    to.write_all(head.as_bytes()).ok()?;
    to.write_all(body).ok()
}
