//! A Docker of one's own.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use tempfile::TempDir;

use super::{
    is_root,
    process::{Output, command, run},
    wait_until,
};

/// A Docker with its own data, in namespaces that end with it: no rule of the host's firewall, no
/// mount and no process of it is seen outside. Dropping it removes all.
#[derive(Debug)]
pub(crate) struct Docker {
    daemon: Child,
    directory: TempDir,
}

impl Docker {
    /// One that answers, or why there is none.
    pub(crate) fn start() -> Result<Self, &'static str> {
        if !is_root() {
            return Err("only root can run Docker");
        }
        let there = |program: &str, places: &[&str]| {
            places.iter().any(|place| Path::new(place).join(program).exists())
        };
        let places = ["/usr/local/bin", "/usr/sbin", "/usr/bin"];
        if !there("dockerd", &places) || !there("docker", &places) {
            return Err("Docker is not installed");
        }
        let directory =
            tempfile::Builder::new().prefix("warren-docker-").tempdir().expect("a directory");
        let path = directory.path();
        let log = File::create(path.join("log")).expect("a log");
        let mut daemon = command("unshare");
        daemon.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        daemon.args(["--", "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"]);
        daemon.args(["--storage-driver=vfs", "--data-root"]).arg(path.join("data"));
        daemon.arg("--exec-root").arg(path.join("run"));
        daemon.arg("--pidfile").arg(path.join("pid"));
        daemon.arg("--config-file").arg(path.join("none.json"));
        daemon.arg(format!("--host={}", address(path))).env("HOME", path);
        fs::write(path.join("none.json"), "{}").expect("a configuration");
        daemon.stdout(log.try_clone().expect("a log")).stderr(log);
        let mut docker = Self { daemon: daemon.spawn().expect("start Docker"), directory };
        wait_until("Docker answers or has ended", || {
            docker.ended() || UnixStream::connect(docker.socket()).is_ok()
        });
        let log = fs::read_to_string(docker.directory.path().join("log")).unwrap_or_default();
        assert!(!docker.ended(), "Docker ended: {log}");
        Ok(docker)
    }

    fn ended(&mut self) -> bool {
        self.daemon.try_wait().expect("ask for a child").is_some()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// What `DOCKER_HOST` is to be.
    pub(crate) fn host(&self) -> String {
        address(self.directory.path())
    }

    /// Where its containerd listens.
    pub(crate) fn containerd(&self) -> PathBuf {
        self.directory.path().join("run/containerd/containerd.sock")
    }

    /// Runs a command line of `docker` there.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut docker: Command = command("docker");
        docker.env("DOCKER_HOST", self.host()).env("HOME", self.directory.path());
        run(docker.args(arguments), b"")
    }
}

fn address(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}

impl Drop for Docker {
    fn drop(&mut self) {
        // The namespaces of processes and mounts end with it.
        drop(self.daemon.kill());
        drop(self.daemon.wait());
        // What is dying still may write into the directory for a moment.
        let path = self.directory.path();
        wait_until("the files of Docker are gone", || {
            fs::remove_dir_all(path).is_ok() || !path.exists()
        });
    }
}
