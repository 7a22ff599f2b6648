//! Let's Encrypt's authority for tests, with everything of it on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(crate) struct Pebble {
    child: Child,
    listen: u16,
    http: u16,
    tls: u16,
    roots: PathBuf,
}

impl Pebble {
    /// Starts one that asks this server about names; none where it is not installed.
    #[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
    pub(crate) async fn start(base: &Path, names: SocketAddr) -> Option<Self> {
        let program = program()?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (roots, key) = (base.join("pebble.pem"), base.join("pebble.key"));
        std::fs::write(&roots, made.cert.pem()).unwrap();
        std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
        let [listen, management, http, tls] = free_ports();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": roots, "privateKey": key,
            "httpPort": http, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = base.join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::File::create(base.join("pebble.log")).unwrap();
        let child = Command::new(program)
            .args(["-strict", "-config"])
            .arg(&file)
            .args(["-dnsserver", &names.to_string()])
            .env_clear()
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pebble = Self { child, listen, http, tls, roots };
        pebble.ready(base).await;
        Some(pebble)
    }

    async fn ready(&self, base: &Path) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.listen)).await.is_err() {
            let log = || std::fs::read_to_string(base.join("pebble.log")).unwrap_or_default();
            assert!(Instant::now() < until, "pebble does not listen: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.listen)
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.roots.clone()
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.http
    }

    pub(crate) fn tls_port(&self) -> u16 {
        self.tls
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where `xtask test` puts it, else on the usual path.
fn program() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin");
    let places = [tools, "/usr/local/bin".into(), "/usr/bin".into()];
    warren_tls::program::find("pebble", &places)
}

/// Ports that nobody has now. It cannot choose by itself.
fn free_ports<const N: usize>() -> [u16; N] {
    let bound = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}
