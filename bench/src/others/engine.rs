//! Docker and podman as those use them who have images: pull, run, build, commit.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Others, command};

/// Where a command may run no longer than this, it hangs.
const LIMIT: &str = "300";

/// A program that has images and makes containers from them.
#[derive(Debug)]
pub(crate) struct Engine {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Program and arguments that come before everything else.
    words: Vec<String>,
    /// Arguments of `run`.
    run: &'static [&'static str],
    /// Arguments of `pull` and `build`: the registry of the benchmark has no TLS.
    plain: &'static [&'static str],
    /// Arguments of `build`.
    build: &'static [&'static str],
}

const ULIMITS: [&str; 4] = ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768"];

impl Others {
    /// Docker and podman, where they work.
    pub(crate) fn engines(&self, scratch: &Path) -> Vec<Engine> {
        let mut engines = Vec::new();
        let has = |name: &str| self.tools.iter().any(|tool| tool.name == name);
        if let Some(docker) = self.docker.as_ref().filter(|_| has("docker run")) {
            let words = docker.words();
            let (run, build) = (&["--network", "none"][..], &["--network", "none"][..]);
            engines.push(Engine { name: "docker", words, run, plain: &[], build });
        }
        if let Some(program) = super::installed("podman").ok().filter(|_| has("podman run")) {
            let words = super::podman_words(&program, scratch);
            let run = &["--network=none", ULIMITS[0], ULIMITS[1], ULIMITS[2], ULIMITS[3]];
            let build = &["--network=none", "--layers", ULIMITS[0], ULIMITS[1]];
            let plain = &["--tls-verify=false"];
            engines.push(Engine { name: "podman", words, run, plain, build });
        }
        engines
    }
}

impl Engine {
    /// Fetches an image.
    pub(crate) fn pull(&self, reference: &str) -> Result<Duration> {
        self.do_it(&[&["pull", "--quiet"], self.plain, &[reference]])
    }

    /// Runs `/bin/true` in a new container of an image.
    pub(crate) fn run(&self, reference: &str) -> Result<Duration> {
        self.do_it(&[&["run", "--rm"], self.run, &[reference, "/bin/true"]])
    }

    /// Removes an image with its layers.
    pub(crate) fn remove_image(&self, reference: &str) -> Result<()> {
        self.do_it(&[&["rmi", "--force", reference]]).map(drop)
    }

    /// Builds what the Dockerfile in a directory says; without the results of earlier builds where
    /// it is to be cold.
    pub(crate) fn build(&self, directory: &Path, tag: &str, cold: bool) -> Result<Duration> {
        let cache: &[&str] = if cold { &["--no-cache"] } else { &[] };
        let directory = directory.to_str().context("a path that is text")?;
        self.do_it(&[&["build", "--quiet"], self.plain, self.build, cache, &["-t", tag, directory]])
    }

    /// Starts a container that waits, and gives its name.
    pub(crate) fn start(&self, reference: &str, line: &str) -> Result<String> {
        let name = format!("warren-bench-{}", std::process::id());
        let rest = ["-d", "--name", &name, reference, "/bin/sh", "-c", line];
        self.do_it(&[&["run"], self.run, &rest])?;
        Ok(name)
    }

    /// Runs a shell line in a container.
    pub(crate) fn exec(&self, container: &str, line: &str) -> Result<Duration> {
        self.do_it(&[&["exec", container, "/bin/sh", "-c", line]])
    }

    /// Makes an image of a container's files; it stands still meanwhile.
    pub(crate) fn commit(&self, container: &str, tag: &str) -> Result<Duration> {
        self.do_it(&[&["commit", "--pause=true", container, tag]])
    }

    /// Removes a container.
    pub(crate) fn remove(&self, container: &str) -> Result<()> {
        self.do_it(&[&["rm", "--force", container]]).map(drop)
    }

    fn do_it(&self, arguments: &[&[&str]]) -> Result<Duration> {
        let mut program = command("timeout");
        program.arg(LIMIT).args(&self.words).args(arguments.iter().copied().flatten());
        // The builder that every version has; podman does not look at it.
        program.env("DOCKER_BUILDKIT", "0");
        program.stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let output = program.output().with_context(|| format!("start {}", self.name))?;
        let took = start.elapsed();
        if !output.status.success() {
            let (what, errors) = (arguments.concat(), String::from_utf8_lossy(&output.stderr));
            bail!("{} {}: {}", self.name, what.join(" "), errors.trim());
        }
        Ok(took)
    }
}
