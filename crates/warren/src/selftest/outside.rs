//! Things on the host that must not be reached, and whether they were.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::PathBuf,
};

use serde_json::{Map, Value, json};

use super::Reached;
use crate::{background::Record, dirs::Dirs, error::CliError};

/// Sockets by which a host is commonly ruled, beside our own.
const SOCKETS: [&str; 7] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
];

/// What is on the host for the length of a self-test. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Outside {
    /// What stands in the files, and nowhere else.
    pub(super) secret: String,
    /// Files that hold it, each in a directory of its own.
    pub(super) canaries: Vec<PathBuf>,
    tcp: TcpListener,
    udp: UdpSocket,
    /// Listens as long as it is open.
    abstract_name: (String, UnixListener),
    sockets: Vec<String>,
    host_name: Vec<u8>,
    command_lines: Vec<String>,
}

impl Outside {
    pub(super) fn set_up(dirs: &Dirs) -> Result<Self, CliError> {
        Self::at([PathBuf::from("/tmp"), dirs.data.clone()], dirs)
            .map_err(CliError::local("put the self-test's own files on the host"))
    }

    fn at(places: [PathBuf; 2], dirs: &Dirs) -> io::Result<Self> {
        let token = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
        let secret = format!("a secret of the host {token}");
        let name = format!("warren-selftest-{token}");
        let address = SocketAddr::from_abstract_name(&name)?;
        let sockets = SOCKETS.map(str::to_owned).into_iter();
        let mut outside = Self {
            secret,
            canaries: Vec::new(),
            tcp: any(TcpListener::bind)?,
            udp: any(UdpSocket::bind)?,
            abstract_name: (name.clone(), UnixListener::bind_addr(&address)?),
            sockets: sockets.chain([dirs.socket().display().to_string()]).collect(),
            host_name: host_name(),
            command_lines: command_lines(dirs),
        };
        outside.tcp.set_nonblocking(true)?;
        outside.udp.set_nonblocking(true)?;
        for place in places {
            let directory = place.join(&name);
            fs::create_dir(&directory)?;
            let canary = directory.join(format!("canary-{token}"));
            // From here on it is removed, whatever happens.
            outside.canaries.push(canary.clone());
            // Open to everybody: nothing but the walls of the sandbox is to keep it closed.
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
            fs::write(&canary, &outside.secret)?;
            fs::set_permissions(&canary, fs::Permissions::from_mode(0o644))?;
        }
        Ok(outside)
    }

    /// A name that nothing else has.
    pub(super) fn token(&self) -> &str {
        &self.abstract_name.0
    }

    /// What the attack programs are told.
    pub(super) fn settings(&self) -> Map<String, Value> {
        let port = |address: io::Result<std::net::SocketAddr>| address.map_or(0, |it| it.port());
        let settings = json!({
            "secret": self.secret,
            "canaries": self.canaries,
            "sockets": self.sockets,
            "abstract": [self.abstract_name.0],
            "hosts": own_addresses(),
            "ports": [port(self.tcp.local_addr())],
            "datagrams": port(self.udp.local_addr()),
            "namespaces": namespaces(),
            "command_lines": self.command_lines,
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }

    /// What came to the listeners since this was asked last.
    pub(super) fn visitors(&self) -> Reached {
        let mut reached = Vec::new();
        while let Ok((_, from)) = self.tcp.accept() {
            reached.push(format!("the host took a connection of {from}"));
        }
        let mut datagram = [0; 256];
        while let Ok((length, from)) = self.udp.recv_from(&mut datagram) {
            if datagram.get(..length) == Some(self.secret.as_bytes()) {
                reached.push(format!("the host got a datagram of {from}"));
            }
        }
        reached
    }

    /// What is no longer as it was made.
    pub(super) fn changed(&self) -> Reached {
        let mut reached = Vec::new();
        for canary in &self.canaries {
            match fs::read_to_string(canary) {
                Ok(text) if text == self.secret => {}
                Ok(_) => reached.push(format!("{} has other contents", canary.display())),
                Err(error) => reached.push(format!("{}: {error}", canary.display())),
            }
            let beside = canary.parent().and_then(|it| fs::read_dir(it).ok());
            if beside.is_none_or(|entries| entries.count() != 1) {
                reached.push(format!("something is new beside {}", canary.display()));
            }
        }
        if host_name() != self.host_name {
            reached.push("the host has another name".to_owned());
        }
        reached
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for canary in &self.canaries {
            if let Some(directory) = canary.parent() {
                drop(fs::remove_dir_all(directory)); // a guest that removed it has made a row fail
            }
        }
    }
}

/// Binds on every address of both kinds, or of the older kind where there is no other.
fn any<T>(bind: impl Fn(&'static str) -> io::Result<T>) -> io::Result<T> {
    bind("[::]:0").or_else(|_no_ipv6| bind("0.0.0.0:0"))
}

fn host_name() -> Vec<u8> {
    rustix::system::uname().nodename().to_bytes().to_vec()
}

/// The command lines of this process and of the server's.
fn command_lines(dirs: &Dirs) -> Vec<String> {
    let server = Record::read(dirs).map(|record| record.pid.to_string());
    let processes = ["self".to_owned()].into_iter().chain(server);
    let lines = processes.filter_map(|it| fs::read(format!("/proc/{it}/cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|it| !it.is_empty())
        .collect()
}

fn namespaces() -> Map<String, Value> {
    let names = ["mnt", "uts", "ipc", "pid", "net", "cgroup", "user"];
    let links = names.iter().filter_map(|name| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        Some(((*name).to_owned(), link.to_string_lossy().into_owned().into()))
    });
    links.collect()
}

/// Every IPv4 address of this host.
fn own_addresses() -> Vec<Ipv4Addr> {
    addresses_in(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// Those of a table of routes that are the host's own: an address, and below it what it is.
fn addresses_in(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None::<Ipv4Addr>;
    for line in table.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::selftest) fn outside(base: &tempfile::TempDir) -> Outside {
        let places = ["one", "two"].map(|name| base.path().join(name));
        for place in &places {
            fs::create_dir(place).unwrap();
        }
        Outside::at(places, &Dirs::of_test(base.path())).unwrap()
    }

    #[test]
    fn a_guest_that_got_out_is_noticed() {
        let base = tempfile::tempdir().unwrap();
        let outside = outside(&base);
        assert_eq!((outside.changed(), outside.visitors()), (vec![], vec![]));

        let port = outside.tcp.local_addr().unwrap().port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ("127.0.0.1", outside.udp.local_addr().unwrap().port());
        client.send_to(outside.secret.as_bytes(), to).unwrap();
        assert_eq!(outside.visitors().len(), 2);

        let canary = &outside.canaries[0];
        fs::write(canary, "overwritten").unwrap();
        fs::write(canary.with_extension("new"), "").unwrap();
        assert_eq!(outside.changed().len(), 2, "{:?}", outside.changed());
        fs::remove_file(canary).unwrap();
        assert!(outside.changed()[0].contains("No such file"), "{:?}", outside.changed());
    }

    #[test]
    fn nothing_of_it_stays() {
        let base = tempfile::tempdir().unwrap();
        drop(outside(&base));
        assert_eq!(fs::read_dir(base.path().join("one")).unwrap().count(), 0);
    }

    #[test]
    fn the_hosts_own_addresses_are_read_from_its_routes() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.0\n        /24 link UNICAST\n     \
                     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(addresses_in(table), [Ipv4Addr::new(10, 1, 2, 3)]);
    }
}
