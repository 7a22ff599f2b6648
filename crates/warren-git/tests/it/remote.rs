//! Repositories behind `git http-backend`, on loopback.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header, http::request::Parts,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_git::wire::{self, PushReader, Rights, Service, Step};

use crate::world::git;

/// The token that opens it.
pub(crate) const TOKEN: &str = "s3cr3t-t0ken-of-the-tests";

/// A server with one repository, `repo.git`, whose default branch is `trunk`, and whatever else is
/// put beside it.
pub(crate) struct Remote {
    place: tempfile::TempDir,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Shared {
    root: PathBuf,
    /// Connections are closed at once.
    down: AtomicBool,
    /// Requests are never answered.
    silent: AtomicBool,
    /// While requests are served, every process is searched for the token.
    watched: AtomicBool,
    /// Where it stands in for a broker: what requests without a password may do.
    rights: Mutex<Option<Rights>>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
}

/// A request, and what was seen while it was served.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    /// Files of `/proc` that had the token.
    pub(crate) leaks: Vec<String>,
}

impl Remote {
    pub(crate) async fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { root: place.path().to_owned(), ..Shared::default() };
        let remote =
            Self { place, address, shared: Arc::new(shared), stop: CancellationToken::new() };
        remote.add_repository("repo.git");
        let (shared, stop, tasks) =
            (Arc::clone(&remote.shared), remote.stop.clone(), TaskTracker::new());
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                connections.spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&shared), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that leaves is no failure of the server.
                    drop(stop.run_until_cancelled(connection).await);
                });
            }
        });
        remote
    }

    /// Makes an empty repository whose default branch is `trunk`.
    pub(crate) fn add_repository(&self, name: &str) {
        git(self.place.path(), &["init", "--quiet", "--bare", "--initial-branch=trunk", name]);
        let path = self.path_of(name);
        git(&path, &["config", "http.receivepack", "true"]);
        git(&path, &["config", "uploadpack.allowFilter", "true"]);
        git(&path, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    }

    /// Commits a file to a branch of `repo.git`, as somebody else would.
    pub(crate) fn commit(&self, branch: &str, file: &str, content: &str) -> String {
        self.commit_to("repo.git", branch, file, content)
    }

    pub(crate) fn commit_to(&self, name: &str, branch: &str, file: &str, content: &str) -> String {
        let place = tempfile::tempdir().unwrap();
        let url = self.path_of(name).display().to_string();
        git(place.path(), &["clone", "--quiet", "--no-checkout", &url, "tree"]);
        let tree = place.path().join("tree");
        let full = format!("refs/heads/{branch}");
        if git(&tree, &["ls-remote", "origin", &full]).is_empty() {
            git(&tree, &["symbolic-ref", "HEAD", &full]);
        } else {
            git(
                &tree,
                &["checkout", "--quiet", "-B", branch, &format!("refs/remotes/origin/{branch}")],
            );
        }
        let path = tree.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        git(&tree, &["add", "--all"]);
        git(&tree, &["commit", "--quiet", "--message", &format!("change {file}")]);
        git(&tree, &["push", "--quiet", "origin", &format!("HEAD:{full}")]);
        git(&tree, &["rev-parse", "HEAD"])
    }

    /// A hook of the server.
    pub(crate) fn hook(&self, name: &str, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join("hooks").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path_of("repo.git")
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("repo.git")
    }

    pub(crate) fn url_of(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Git in the repository on the server.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path(), arguments)
    }

    /// What a branch has in a file.
    pub(crate) fn file(&self, branch: &str, file: &str) -> String {
        self.git(&["show", &format!("refs/heads/{branch}:{file}")])
    }

    pub(crate) fn branches(&self) -> Vec<String> {
        let listed = self.git(&["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
        listed.lines().map(str::to_owned).collect()
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    pub(crate) fn watch(&self) {
        self.shared.watched.store(true, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Lets in who has no password, as far as these rights go, as a broker would.
    pub(crate) fn let_in(&self, rights: Rights) {
        *self.shared.rights.lock().unwrap() = Some(rights);
    }

    /// Waits for the next request.
    pub(crate) async fn request(&self) {
        self.shared.arrived.notified().await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let watched = shared.watched.load(Ordering::SeqCst);
    let leaks = if watched { leaks() } else { Vec::new() };
    let path = request.uri().path().to_owned();
    let seen = Seen { path, authorization: authorization.clone(), leaks };
    shared.seen.lock().unwrap().push(seen);
    shared.arrived.notify_one();
    if shared.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let good = format!("Basic {}", BASE64_STANDARD.encode(format!("x-access-token:{TOKEN}")));
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let rights = shared.rights.lock().unwrap().clone();
    if let Some(rights) = rights {
        if let Err(reason) = decide(&rights, &head, &body) {
            let denied = Response::builder().status(StatusCode::FORBIDDEN);
            return Ok(denied.body(Full::from(reason)).unwrap());
        }
    } else if authorization.as_deref() != Some(good.as_str()) {
        let denied = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")
            .body(Full::default());
        return Ok(denied.unwrap());
    }
    Ok(backend(&shared.root, head, body).await)
}

/// What a broker decides about a request.
fn decide(rights: &Rights, head: &Parts, body: &[u8]) -> Result<(), String> {
    let request = wire::Request::read(head.method.as_str(), head.uri.path(), head.uri.query());
    let request = request.map_err(|error| error.to_string())?;
    assert_eq!(request.target(), head.uri.to_string());
    rights.allow(&request).map_err(|error| error.to_string())?;
    if (request.service, request.step) == (Service::Write, Step::Exchange) {
        let push = PushReader::default().feed(body).map_err(|error| error.to_string())?;
        let push = push.ok_or("the list of refs does not end")?;
        rights.allow_push(&push.updates).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
async fn backend(root: &Path, head: Parts, body: Bytes) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "tests")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move { stdin.write_all(&body).await };
    let (_, output) = tokio::join!(feed, child.wait_with_output());
    let output = output.unwrap().stdout;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n").expect("a CGI answer has headers");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Full::new(Bytes::copy_from_slice(&output[end + 4..]))).unwrap()
}

/// Files of `/proc` that show the token: command lines and environments of all processes.
fn leaks() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let files = processes.flat_map(|path| ["cmdline", "environ"].map(|name| path.join(name)));
    let shows = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
    };
    files.filter(shows).map(|path| path.display().to_string()).collect()
}
