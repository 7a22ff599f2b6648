//! A runtime in directories of its own, and a client for the agent's health.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_core::{
    id::SandboxId,
    runtime::{Runtime, Service},
    spec::{Image, Limits, Network, Profile, Spec},
};
use warren_runtime::{
    namespace::{self, Config, NamespaceRuntime},
    net::NetConfig,
    storage::Driver,
};

/// How long to wait for what should come; long, for machines under load.
const PATIENCE: Duration = Duration::from_secs(40);

/// A runtime that is taken down when the test ends, however it ends.
pub(crate) struct Host {
    pub(crate) runtime: Option<Arc<NamespaceRuntime>>,
    pub(crate) data: tempfile::TempDir,
    pub(crate) run: tempfile::TempDir,
    pub(crate) layers_by_path: bool,
}

/// Whether these tests can run here; says why not.
pub(crate) fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: the conformance suite of the namespace runtime needs root");
    }
    root
}

pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes: 256 << 20,
        cpu_millis: 1000,
        pids: 128,
        open_files: 1024,
        disk_bytes: None,
    }
}

pub(crate) fn spec() -> Spec {
    Spec {
        image: Image::Host,
        limits: limits(),
        profile: Profile::Default,
        network: Network::Open,
        hostname: None,
        mounts: Vec::new(),
        volumes: Vec::new(),
    }
}

impl Host {
    pub(crate) fn open(blanks: usize) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), blanks, false)
    }

    pub(crate) fn open_in(data: tempfile::TempDir, blanks: usize, layers_by_path: bool) -> Self {
        let run = tempfile::tempdir_in("/run").unwrap();
        let mut host = Self { runtime: None, data, run, layers_by_path };
        host.start(blanks);
        host
    }

    /// What the runtime calls its part of the host.
    pub(crate) fn instance(&self) -> String {
        let name = self.run.path().file_name().unwrap().to_string_lossy().into_owned();
        name.to_lowercase().replace(|it: char| !it.is_ascii_alphanumeric(), "")
    }

    /// Lets go of the runtime without taking anything down, as a killed server does.
    pub(crate) fn crash(&mut self) {
        self.runtime = None;
    }

    /// The keepers that serve this host, by pid.
    pub(crate) fn keepers(&self) -> Vec<i32> {
        let run = self.run.path().to_string_lossy().into_owned();
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
        let inodes: Vec<String> = sockets
            .lines()
            .filter(|it| it.contains(&run) && it.contains("keeper-"))
            .filter_map(|it| Some(format!("socket:[{}]", it.split_whitespace().nth(6)?)))
            .collect();
        let numbers = std::fs::read_dir("/proc").unwrap();
        let pids = numbers.filter_map(|it| it.unwrap().file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            comm.starts_with("warren-keeper")
                && std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
                    fds.flatten().any(|fd| {
                        let link = std::fs::read_link(fd.path()).unwrap_or_default();
                        inodes.iter().any(|it| link.to_string_lossy() == *it)
                    })
                })
        })
        .collect()
    }

    /// Everything on the host that has this runtime's name or one of its slots'.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let mut look = |directory: &std::path::Path| {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                traces.push(entry.path().to_string_lossy().into_owned());
            }
        };
        for place in ["blanks", "sandboxes", "snapshots", "stopped", "trash"] {
            look(&self.data.path().join(place));
        }
        for place in ["s", "exits"] {
            look(&self.run.path().join(place));
        }
        for entry in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let mine = entry.path().join(format!("warren-{}", self.instance()));
            for slot in std::fs::read_dir(mine).into_iter().flatten().flatten() {
                if slot.path().is_dir() {
                    traces.push(slot.path().to_string_lossy().into_owned());
                }
            }
        }
        traces
    }

    /// Waits until nothing is left on the host.
    pub(crate) async fn wait_until_clean(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = self.traces();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "left on the host: {left:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Opens the runtime over what is there, as a server does that starts again.
    pub(crate) fn start(&mut self, blanks: usize) {
        let config = Config {
            data_dir: self.data.path().to_owned(),
            run_dir: self.run.path().to_owned(),
            instance: self.instance(),
            agent: warren_agent_image::AGENT,
            blanks,
            limits: limits(),
            all_memory_bytes: None,
            storage: Driver::Auto,
            backing: None,
            disk_reserve_bytes: 0,
            network: namespace::Network::On(NetConfig::default()),
            layers_by_path: self.layers_by_path,
            images: warren_runtime::images::Settings::default(),
        };
        self.runtime = Some(NamespaceRuntime::open(config).unwrap());
    }

    pub(crate) fn runtime(&self) -> &Arc<NamespaceRuntime> {
        self.runtime.as_ref().unwrap()
    }

    /// The first process of a guest, as the journal has it.
    pub(crate) fn process(&self, id: &SandboxId) -> i32 {
        let record = std::fs::read_to_string(self.entry(id).join("guest")).unwrap();
        let pid = record.lines().find_map(|line| line.strip_prefix("pid "));
        pid.unwrap().parse().unwrap()
    }

    pub(crate) fn entry(&self, id: &SandboxId) -> PathBuf {
        self.data.path().join("sandboxes").join(id.as_str())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let ids: Vec<_> = std::fs::read_dir(self.data.path().join("sandboxes"))
            .into_iter()
            .flatten()
            .filter_map(|it| it.ok()?.file_name().to_str()?.parse::<SandboxId>().ok())
            .collect();
        // The runtime of the test may be in the middle of unwinding: a new one does the work.
        std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tokio.block_on(async {
                for id in ids {
                    runtime.destroy(&id).await.unwrap();
                }
            });
            runtime.close();
        })
        .join()
        .unwrap();
    }
}

/// Asks the agent whether it is well; the status line of the answer.
pub(crate) async fn health(runtime: &NamespaceRuntime, id: &SandboxId, service: Service) -> String {
    let answer = async {
        let mut stream = runtime.connect(id, service).await.unwrap();
        let request = b"GET /health HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("the agent answers")
}

/// Waits for a condition with a deadline.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next event of the runtime.
pub(crate) async fn next_event(
    events: &mut tokio::sync::broadcast::Receiver<warren_core::runtime::RuntimeEvent>,
) -> warren_core::runtime::RuntimeEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event").unwrap()
}
