//! A real `warren serve` in a data directory of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{http::Client, others::command};

/// How long a server may take to answer, or to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for a gigabyte with its snapshots and forks.
const POOL_SIZE: &str = "4GiB";

/// What differs between the servers that are measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pool {
    /// Blank sandboxes; the default where `None`.
    pub(crate) blanks: Option<u32>,
    /// Parked sandboxes; the default where `None`.
    pub(crate) parked: Option<u32>,
}

/// A running server. Dropping it removes its sandboxes, ends it and removes its data.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) warren: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) socket: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server and waits for its first answer.
    pub(crate) fn start(warren: &Path, data: &Path, pool: Pool) -> Result<Self> {
        Self::start_with(warren, data, pool, &[])
    }

    /// The same, with these settings.
    pub(crate) fn start_with(
        warren: &Path,
        data: &Path,
        pool: Pool,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        let data = data.canonicalize()?;
        let mut serve = warren_command(warren, &data);
        serve.arg("serve").stdout(Stdio::null()).stderr(fs::File::create(data.join("bench.log"))?);
        serve.envs(settings.iter().copied());
        if let Some(blanks) = pool.blanks {
            serve.env("WARREN_BLANKS", blanks.to_string());
        }
        if let Some(parked) = pool.parked {
            serve.env("WARREN_PARKED", parked.to_string());
        }
        let child = serve.spawn().context("start warren serve")?;
        let mut server = Self { warren: warren.to_owned(), data, socket: PathBuf::new(), child };
        server.socket = server.wait_for_socket()?;
        Ok(server)
    }

    /// The same, with a btrfs pool for the files of sandboxes.
    pub(crate) fn start_on_pool(warren: &Path, data: &Path, pool: Pool) -> Result<Self> {
        fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        let mut setup = warren_command(warren, &data.canonicalize()?);
        let output = setup.args(["setup", "storage", "--size", POOL_SIZE]).output()?;
        if !output.status.success() {
            remove(data);
            bail!("make a pool: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::start(warren, data, pool)
    }

    /// A connection of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.socket)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command of this server's command line.
    pub(crate) fn command(&self) -> std::process::Command {
        warren_command(&self.warren, &self.data)
    }

    /// What the server says about itself.
    pub(crate) fn version(&self) -> Result<Value> {
        self.client()?.send("GET", "/v1/version", b"")?.json()
    }

    fn wait_for_socket(&mut self) -> Result<PathBuf> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.data.join("bench.log")).unwrap_or_default();
                bail!("warren serve ended with {status}: {log}");
            }
            let output = self.command().args(["version", "--json"]).output()?;
            if let Some(socket) = socket_in(&output.stdout) {
                return Ok(socket);
            }
            pause();
        }
        bail!("warren serve does not answer after {PATIENCE:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for arguments in
            [&["--quiet", "rm", "--all", "--force"][..], &["--quiet", "serve", "--stop"]]
        {
            let status = self.command().args(arguments).stdout(Stdio::null()).status();
            if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
                eprintln!("warren {} at the end: {status:?}", arguments.join(" "));
            }
        }
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for warren serve: {error}");
        }
        if self.data.join("pool.record").exists() {
            let mut setup = self.command();
            setup.args(["--quiet", "setup", "storage", "--remove", "--yes"]);
            let output = setup.output();
            if !output.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("removing the storage pool: {output:?}");
                return; // what is mounted there would be emptied, and the mount stay
            }
        }
        remove(&self.data);
        if let Some(run) = self.socket.parent() {
            remove(run);
        }
    }
}

/// Removes a directory of an ended server.
fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        eprintln!("removing {}: {error}", directory.display());
    }
}

/// Removes the directory of sockets that goes with this data directory.
pub(crate) fn remove_run_directory(warren: &Path, data: &Path) -> Result<()> {
    let output = warren_command(warren, data).args(["version", "--json"]).output()?;
    let version: Value = serde_json::from_slice(&output.stdout).context("read the version")?;
    let socket = version.get("socket").and_then(Value::as_str).map(Path::new);
    socket.and_then(Path::parent).into_iter().for_each(remove);
    Ok(())
}

/// The binary with nothing of the caller's configuration.
pub(crate) fn warren_command(warren: &Path, data: &Path) -> std::process::Command {
    let mut warren = command(warren);
    warren.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", data);
    warren.env("WARREN_DATA_DIR", data);
    warren
}

/// Where the server listens, once it does.
fn socket_in(version: &[u8]) -> Option<PathBuf> {
    let version: Value = serde_json::from_slice(version).ok()?;
    version.get("server").filter(|server| !server.is_null())?;
    Some(PathBuf::from(version.get("socket")?.as_str()?))
}

/// A moment between two looks at something that no event tells about.
pub(crate) fn pause() {
    #[expect(clippy::disallowed_methods, reason = "nothing tells about other processes' objects")]
    std::thread::sleep(Duration::from_millis(1));
}
