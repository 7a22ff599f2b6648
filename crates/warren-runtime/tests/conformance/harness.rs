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

/// A runtime that is taken down when the test ends, however it ends.
pub(crate) struct Host {
    pub(crate) runtime: Option<Arc<NamespaceRuntime>>,
    pub(crate) data: tempfile::TempDir,
    pub(crate) run: tempfile::TempDir,
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
    Limits { memory_bytes: 256 << 20, cpu_millis: 1000, pids: 128, open_files: 1024 }
}

pub(crate) fn spec() -> Spec {
    Spec {
        image: Image::Host,
        limits: limits(),
        profile: Profile::Default,
        network: Network::Open,
        hostname: None,
    }
}

impl Host {
    pub(crate) fn open(blanks: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let run = tempfile::tempdir_in("/run").unwrap();
        let mut host = Self { runtime: None, data, run };
        host.start(blanks);
        host
    }

    /// Opens the runtime over what is there, as a server does that starts again.
    pub(crate) fn start(&mut self, blanks: usize) {
        let name = self.run.path().file_name().unwrap().to_string_lossy().into_owned();
        let config = Config {
            data_dir: self.data.path().to_owned(),
            run_dir: self.run.path().to_owned(),
            instance: name.to_lowercase().replace(|it: char| !it.is_ascii_alphanumeric(), ""),
            agent: warren_agent_image::AGENT,
            blanks,
            limits: limits(),
            storage: Driver::Auto,
            network: namespace::Network::On(NetConfig::default()),
        };
        self.runtime = Some(NamespaceRuntime::open(config).unwrap());
    }

    pub(crate) fn runtime(&self) -> &Arc<NamespaceRuntime> {
        self.runtime.as_ref().unwrap()
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
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect("the agent answers")
}
