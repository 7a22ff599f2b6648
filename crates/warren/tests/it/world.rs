//! A directory of its own for each test, a server in this process, and the program as a child.

use std::{
    io::Write as _,
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::task::TaskTracker;
use warren_core::{Sandboxes, clock::SystemClock, config::Config, fake::FakeRuntime, store::Store};
use warren_server::App;

/// How long the program may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where one test happens.
#[derive(Debug)]
pub(crate) struct World {
    base: tempfile::TempDir,
    pub(crate) fake: Arc<FakeRuntime>,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// Without a server.
    pub(crate) fn empty() -> Self {
        let base = tempfile::tempdir().unwrap();
        Self { base, fake: Arc::default(), server: None }
    }

    /// With a server on the socket that the program looks for.
    pub(crate) fn start() -> Self {
        let mut world = Self::empty();
        let run = world.path("run");
        std::fs::create_dir(&run).unwrap();
        let listener = UnixListener::bind(run.join("api.sock")).unwrap();
        let fake = Arc::clone(&world.fake);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(serve(listener, fake, stopped));
        });
        world.server = Some((stop, thread));
        world
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// The program with these arguments, in an environment of this test alone.
    #[expect(clippy::disallowed_methods, reason = "a test starts the program as a person would")]
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren"));
        command.args(arguments);
        self.at_home(command)
    }

    /// The program under another, which is given the program and its arguments behind its own.
    #[expect(clippy::disallowed_methods, reason = "a test starts the program as a person would")]
    pub(crate) fn command_under(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let (first, rest) = wrapper.split_first().unwrap();
        let mut command = Command::new(first);
        command.args(rest).arg(env!("CARGO_BIN_EXE_warren")).args(arguments);
        self.at_home(command)
    }

    /// Gives a command the environment of this test alone.
    fn at_home(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.base.path())
            .env("WARREN_DATA_DIR", self.path("data"))
            .env("WARREN_RUN_DIR", self.path("run"))
            .env("WARREN_CONFIG", self.path("warren.toml"))
            .current_dir(self.base.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.path("warren.toml").exists() {
            std::fs::write(self.path("warren.toml"), "").unwrap();
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn warren(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Runs the program with this at its standard input.
    pub(crate) fn warren_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finish(child)
    }

    /// Runs a command of the program that must succeed, and gives what it printed.
    #[track_caller]
    pub(crate) fn data(&self, arguments: &[&str]) -> String {
        let outcome = self.warren(arguments);
        assert_eq!(outcome.status, 0, "{arguments:?}: {outcome:?}");
        outcome.stdout
    }

    /// As [`World::data`], read as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.data(&[&["--json"], arguments].concat())).unwrap()
    }

    /// A new sandbox.
    pub(crate) fn create(&self, arguments: &[&str]) -> String {
        self.data(&[&["create"], arguments].concat()).trim().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.server.take() {
            drop(stop);
            drop(thread.join()); // its panic was a failure of some request already
        }
    }
}

async fn serve(listener: UnixListener, fake: Arc<FakeRuntime>, stopped: oneshot::Receiver<()>) {
    let store = Store::in_memory(&TaskTracker::new()).await.unwrap();
    let core = Sandboxes::open(fake, store, Arc::new(SystemClock), Config::default()).await;
    let app = App::new(core.unwrap(), "0.0.0-test");
    let uid = rustix::process::geteuid().as_raw();
    let stopped = async move { drop(stopped.await) };
    warren_server::serve(listener, uid, app, stopped).await.unwrap();
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits for a child; one that hangs is killed, so that its test fails instead.
pub(crate) fn finish(child: Child) -> Outcome {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, waiting) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not reaped yet, so the pid is still the child's.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watch.join().unwrap();
    output.into()
}

/// Sends a signal to a child.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}
