//! Let's Encrypt's authority for tests, as a process on this machine.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority that speaks ACME, until it is dropped.
#[derive(Debug)]
pub struct Pebble {
    child: Child,
    directory: PathBuf,
    listen: u16,
    management: u16,
    http: u16,
    tls: u16,
}

/// How one behaves.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// The name server that it asks.
    pub names: SocketAddr,
    /// Where it looks with HTTP-01 and with TLS-ALPN-01; none for ports that nobody has.
    pub ports: Option<[u16; 2]>,
    /// How long its certificates are good, in seconds.
    pub life_seconds: u32,
}

impl Pebble {
    /// Starts one that keeps its files in this directory; none where it is not installed.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or does not listen.
    pub fn start(directory: &Path, options: &PebbleOptions) -> io::Result<Option<Self>> {
        let Some(program) = program() else { return Ok(None) };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let file = |name: &str| directory.join(name);
        fs::write(file("pebble.pem"), made.cert.pem())?;
        fs::write(file("pebble.key"), made.key_pair.serialize_pem())?;
        let [listen, management, http, tls] = free_ports()?;
        let [http, tls] = options.ports.unwrap_or([http, tls]);
        let profile = json!({ "description": "all", "validityPeriod": options.life_seconds });
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": file("pebble.pem"), "privateKey": file("pebble.key"),
            "httpPort": http, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "profiles": { "default": profile },
        }});
        fs::write(file("pebble.json"), config.to_string())?;
        let child = run(&program, directory, options.names)?;
        let directory = directory.to_owned();
        let pebble = Self { child, directory, listen, management, http, tls };
        pebble.ready()?;
        Ok(Some(pebble))
    }

    fn ready(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        for port in [self.listen, self.management] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                if Instant::now() >= until {
                    return Err(io::Error::other(format!("it does not listen: {}", self.log())));
                }
                #[expect(clippy::disallowed_methods, reason = "nothing announces that it listens")]
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Its directory, as an ACME client is told it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/dir", self.listen)
    }

    /// The file of whom to trust for that address, and for the next.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.directory.join("pebble.pem")
    }

    /// Where the root of the certificates is that it gives, in PEM.
    #[must_use]
    pub fn issuer_url(&self) -> String {
        format!("https://localhost:{}/roots/0", self.management)
    }

    /// Where it looks with HTTP-01.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// Where it looks with TLS-ALPN-01.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls
    }

    /// How many orders it was sent.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.log().matches("POST /order-plz").count()
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
fn run(program: &Path, directory: &Path, names: SocketAddr) -> io::Result<Child> {
    let log = fs::File::create(directory.join("pebble.log"))?;
    Command::new(program)
        .args(["-strict", "-config"])
        .arg(directory.join("pebble.json"))
        .args(["-dnsserver", &names.to_string()])
        .env_clear()
        .env("PEBBLE_VA_NOSLEEP", "1")
        // An order is to fail when it has a reason to.
        .env("PEBBLE_WFE_NONCEREJECT", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// Where `xtask test` puts it, else on the usual path.
fn program() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin");
    let places = [tools, "/usr/local/bin".into(), "/usr/bin".into()];
    places.iter().map(|place| place.join("pebble")).find(|it| it.is_file())
}

/// Ports that nobody has now. It cannot choose by itself.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut bound = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        bound.push(listener);
    }
    Ok(ports)
}
