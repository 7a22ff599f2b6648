//! Docker: the daemon that runs, or one of the benchmark's own.
//!
//! Ours has everything in the run's scratch directory and neither a bridge nor firewall rules, so
//! nothing of it is left on the host and no other traffic goes through it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{bundle, command, installed};
use crate::{machine, server::pause};

/// The name of the image that the benchmark imports once.
const IMAGE: &str = "warren-bench:root";

/// How long a daemon may take to answer, or to go.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that answers, and the program that asks it.
#[derive(Debug)]
pub(crate) struct Docker {
    program: PathBuf,
    /// Ours, and where it listens.
    own: Option<(Child, PathBuf)>,
}

impl Docker {
    /// Finds the daemon of this machine, or starts one.
    pub(super) fn find(scratch: &Path) -> Result<Self> {
        let mut docker = Self { program: installed("docker")?, own: None };
        if docker.answers()? {
            return Ok(docker);
        }
        let daemon = installed("dockerd").context("no daemon runs, and dockerd is")?;
        if !machine::is_root() {
            bail!("no daemon runs, and only root can start one");
        }
        docker.own = Some(start(&daemon, &scratch.join("dockerd"))?);
        let begun = Instant::now();
        while !docker.answers()? {
            if begun.elapsed() > PATIENCE {
                bail!("a daemon that was started does not answer after {PATIENCE:?}");
            }
            pause();
        }
        Ok(docker)
    }

    /// The program with what leads it to its daemon.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![self.program.display().to_string()];
        if let Some((_, socket)) = &self.own {
            words.extend(["--host".to_owned(), format!("unix://{}", socket.display())]);
        }
        words
    }

    /// The words of the main job, once its image is there.
    pub(super) fn run(&self, scratch: &Path) -> Result<Vec<String>> {
        self.import(scratch)?;
        let run = ["run", "--rm", "--network", "none", "-v", "/usr:/usr:ro", IMAGE, "/bin/true"];
        Ok(self.words().into_iter().chain(run.map(str::to_owned)).collect())
    }

    /// A command of it, without arguments yet.
    fn command(&self) -> Command {
        let words = self.words();
        let mut docker = command(&self.program);
        docker.args(words.get(1..).unwrap_or_default());
        docker
    }

    fn answers(&self) -> Result<bool> {
        let mut ask = self.command();
        ask.args(["version", "--format", "{{.Server.Version}}"]);
        Ok(ask.output().context("ask docker for its daemon")?.status.success())
    }

    /// Makes an image of the almost empty root; `/usr` is mounted.
    fn import(&self, scratch: &Path) -> Result<()> {
        let root = bundle::root(&scratch.join("docker"))?;
        let archive = scratch.join("docker.tar");
        let mut tar = command("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".");
        if !tar.status().context("start tar")?.success() {
            bail!("tar failed on {}", root.display());
        }
        let mut import = self.command();
        import.arg("import").arg(&archive).arg(IMAGE).stdout(Stdio::null());
        if !import.status().context("start docker import")?.success() {
            bail!("docker import failed");
        }
        fs::remove_file(&archive).context("remove the image's archive")
    }
}

fn start(program: &Path, directory: &Path) -> Result<(Child, PathBuf)> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let socket = directory.join("docker.sock");
    let mut daemon = command(program);
    daemon.arg("--data-root").arg(directory.join("data"));
    daemon.arg("--exec-root").arg(directory.join("exec"));
    daemon.arg("--pidfile").arg(directory.join("pid"));
    daemon.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
    daemon.arg("--host").arg(format!("unix://{}", socket.display()));
    let log = fs::File::create(directory.join("log"))?;
    daemon.stdout(Stdio::null()).stderr(log);
    let child = daemon.spawn().with_context(|| format!("start {}", program.display()))?;
    Ok((child, socket))
}

impl Drop for Docker {
    fn drop(&mut self) {
        let Some((daemon, _)) = &mut self.own else { return };
        // Asked to end, it unmounts what it has mounted.
        let asked = command("kill").args(["-TERM", &daemon.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            eprintln!("asking dockerd to end failed");
        }
        if let Err(error) = daemon.wait() {
            eprintln!("waiting for dockerd: {error}");
        }
    }
}
