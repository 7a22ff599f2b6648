//! Running one program to its end, with a limit.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// No command of a test takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// What a program did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text on standard output")
    }

    /// Standard error as text.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The exit status as a number.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails the test with all that was said unless the program succeeded.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert!(
            self.status.success(),
            "{}\nstdout: {}\nstderr: {}",
            self.status,
            String::from_utf8_lossy(&self.stdout),
            self.errors()
        );
        self
    }
}

/// A command without input and without the tests' environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs `command` with this input; fails the test if it hangs.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program may end without reading all of it.
        thread::spawn(move || stdin.write_all(&input).is_ok());
    }
    let pid = child.id();
    let (send, ended) = mpsc::channel();
    thread::spawn(move || send.send(child.wait()));
    let Ok(status) = ended.recv_timeout(LIMIT) else {
        kill(pid);
        panic!("{command:?} hangs: killed after {LIMIT:?}");
    };
    let (stdout, stderr) = (stdout.recv_timeout(LIMIT), stderr.recv_timeout(LIMIT));
    Output {
        status: status.expect("wait for a child"),
        stdout: stdout.unwrap_or_else(|_| panic!("{command:?} left its output open")),
        stderr: stderr.unwrap_or_else(|_| panic!("{command:?} left its errors open")),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, all) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes)); // what was read until an error is what there is
        }
        drop(send.send(bytes)); // nobody waits when the test has failed already
    });
    all
}

/// Ends a process of ours at once.
pub(crate) fn kill(pid: u32) {
    let status = command("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    drop(status); // gone already is as good
}
