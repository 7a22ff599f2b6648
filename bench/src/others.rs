//! The same job in other tools: make a box, run `/bin/true`, take it away.
//!
//! Each runs as its users run it: one process from start to end. All of them get the host's `/usr`
//! read-only as their root, as our `host` image is, except where a tool wants an image of its own.
//! A tool that is not installed, or does not work here, is named with the reason and left out.

mod bundle;
mod docker;
mod engine;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use docker::Docker;
pub(crate) use engine::Engine;

/// A tool that works on this machine.
#[derive(Debug)]
pub(crate) struct Tool {
    /// What the table calls it.
    pub(crate) name: String,
    /// Slow tools run in fewer of the rounds.
    pub(crate) every: usize,
    /// Program and arguments; `{id}` stands for a name that no two runs share.
    words: Vec<String>,
    runs: u32,
}

/// What is there to compare with, and why the rest is not.
#[derive(Debug, Default)]
pub(crate) struct Others {
    pub(crate) tools: Vec<Tool>,
    /// Name and reason.
    pub(crate) absent: Vec<(String, String)>,
    docker: Option<Docker>,
}

/// Host directories that make a root filesystem together with `/usr`.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

impl Others {
    /// Finds the tools, and tries each once. `scratch` is a directory for bundles and images.
    pub(crate) fn find(scratch: &Path) -> Result<Self> {
        let mut others = Self::default();
        others.try_tool("posix_spawn /bin/true", 1, Ok(words("/bin/true")));
        others.try_tool("bwrap --unshare-all", 1, bubblewrap());
        for (name, every) in [("crun", 1), ("runc", 2), ("runsc", 8)] {
            let words = installed(name).and_then(|program| bundle::run(name, &program, scratch));
            others.try_tool(&format!("{name} run"), every, words);
        }
        others.try_tool("podman run", 8, podman(scratch));
        let docker = Docker::find(scratch).and_then(|docker| {
            let words = docker.run(scratch);
            others.docker = Some(docker);
            words
        });
        others.try_tool("docker run", 8, docker);
        Ok(others)
    }

    fn try_tool(&mut self, name: &str, every: usize, words: Result<Vec<String>>) {
        let name = name.to_owned();
        let tried = words.and_then(|words| {
            let mut tool = Tool { name: name.clone(), every, words, runs: 0 };
            tool.run().map(|_took| tool)
        });
        match tried {
            Ok(tool) => self.tools.push(tool),
            Err(error) => self.absent.push((name, format!("{error:#}"))),
        }
    }
}

impl Tool {
    /// Runs the job once.
    pub(crate) fn run(&mut self) -> Result<Duration> {
        self.runs += 1;
        let id = format!("warren-bench-{}-{}", std::process::id(), self.runs);
        let words: Vec<String> = self.words.iter().map(|word| word.replace("{id}", &id)).collect();
        let (program, arguments) = words.split_first().context("a tool has no program")?;
        let mut command = command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output().with_context(|| format!("start {program}"))?;
        let took = start.elapsed();
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            bail!("installed, but fails here ({}): {last}", output.status);
        }
        Ok(took)
    }
}

fn bubblewrap() -> Result<Vec<String>> {
    let program = installed("bwrap")?;
    let mut line = format!("{} --ro-bind /usr /usr", program.display());
    for name in MERGED {
        if Path::new("/").join(name).is_symlink() {
            line += &format!(" --symlink usr/{name} /{name}");
        } else if Path::new("/").join(name).is_dir() {
            line += &format!(" --ro-bind /{name} /{name}");
        }
    }
    line += " --proc /proc --dev /dev --tmpfs /tmp --unshare-all --die-with-parent --cap-drop ALL /bin/true";
    Ok(words(&line))
}

/// Podman wants the unified hierarchy out of the way on a machine with both generations, and limits
/// below the hard ones where it may not raise those.
fn podman(scratch: &Path) -> Result<Vec<String>> {
    let program = installed("podman")?;
    let root = bundle::root(&scratch.join("podman"))?;
    let root = root.display().to_string();
    let run = ["run", "--rm", "--network=none", "--ulimit", "nofile=20000:20000", "--ulimit"];
    let root = ["nproc=32768:32768", "-v", "/usr:/usr:ro", "--rootfs", &root, "/bin/true"];
    let rest = run.into_iter().chain(root).map(str::to_owned);
    Ok(podman_words(&program, scratch).into_iter().chain(rest).collect())
}

/// Podman with its own place for everything; arguments follow.
fn podman_words(program: &Path, scratch: &Path) -> Vec<String> {
    let (program, store) = (program.display(), scratch.display());
    let line = format!(
        "exec {program} --root {store}/podman-root --runroot {store}/podman-run \
         --cgroup-manager=cgroupfs --events-backend=none \"$@\""
    );
    let mut words = in_private_mounts(&line);
    words.push("podman".to_owned());
    words
}

/// A shell line that does not see the second generation of cgroups where the first has the
/// controllers. Nothing changes for anybody else.
fn in_private_mounts(line: &str) -> Vec<String> {
    if !is_hybrid() {
        return ["sh", "-c", line].map(str::to_owned).into();
    }
    let line = format!("umount /sys/fs/cgroup/unified; {line}");
    ["unshare", "-m", "sh", "-c", &line].map(str::to_owned).into()
}

fn is_hybrid() -> bool {
    Path::new("/sys/fs/cgroup/unified").is_dir() && Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// Where a program is, or that it is not.
pub(crate) fn installed(name: &str) -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark looks where its caller would")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    found.context("not installed")
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A command without input.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tools are measured as their users run them")]
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_fails_is_absent_with_its_words() {
        let mut others = Others::default();
        let line = ["sh", "-c", "echo no such luck >&2; exit 1"].map(str::to_owned);
        others.try_tool("x", 1, Ok(line.into()));
        assert!(others.tools.is_empty());
        assert!(others.absent[0].1.contains("no such luck"), "{:?}", others.absent);
    }

    #[test]
    fn every_run_has_a_name_of_its_own() {
        let line = ["sh", "-c", "mkdir \"$0\"", "/tmp/{id}"].map(str::to_owned);
        let mut tool = Tool { name: "x".into(), every: 1, words: line.into(), runs: 0 };
        tool.run().unwrap();
        tool.run().unwrap();
        for run in 1..=2 {
            std::fs::remove_dir(format!("/tmp/warren-bench-{}-{run}", std::process::id())).unwrap();
        }
    }
}
