//! What the edge of this server needs of this machine: the key that links are signed with, and an
//! address for browsers where the server listens on no other.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    ops::RangeInclusive,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use warren_server::edge::{Door, EdgeKey};

use crate::error::CliError;

/// The file of the key, in the data directory.
const KEY: &str = "edge.key";

/// The ports for browsers: the first that nobody else has, so that links mostly stay the same from
/// server to server.
const PORTS: RangeInclusive<u16> = 7424..=7431;

/// How many browsers may wait until they are taken.
const QUEUE: i32 = 1024;

/// An address on the loopback that nobody listens on yet.
///
/// It is bound before the server leaves the namespaces of the host, where browsers are.
#[derive(Debug)]
pub(super) struct Reserved(OwnedFd);

impl Reserved {
    /// Takes one of [`PORTS`], or any other where all are taken.
    pub(super) fn take() -> io::Result<Self> {
        let mut ports = PORTS;
        ports.find_map(|port| Self::bound(port).ok()).map_or_else(|| Self::bound(0), Ok)
    }

    fn bound(port: u16) -> io::Result<Self> {
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        // Without the right to share it: two who only reserve an address could both have it.
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        Ok(Self(socket))
    }

    /// What listens there when it is first asked to.
    pub(super) fn door(self) -> Door {
        Door::new(move || {
            rustix::net::listen(&self.0, QUEUE)?;
            Ok(TcpListener::from(self.0.as_fd().try_clone_to_owned()?))
        })
    }
}

/// The key of this data directory, made where there is none yet.
///
/// # Errors
///
/// Where the file cannot be read or written, or is not what this server has written.
pub(super) fn key(data: &Path) -> Result<EdgeKey, CliError> {
    let path = data.join(KEY);
    match read(&path) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => make(data).map_err(CliError::local("write the key of links")),
        Err(error) => {
            let hint = "remove it, and every link that was given out before is good for nothing";
            Err(CliError::local("read the key of links")(error)
                .hint(format!("{} is not what a server has written", path.display()))
                .hint(hint))
        }
    }
}

fn read(path: &Path) -> io::Result<Option<EdgeKey>> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(128).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = unhex(text.trim_end());
    bytes.map(|bytes| Some(EdgeKey::new(bytes))).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Writes a new key beside its place, and puts it there when it is on the disk.
fn make(data: &Path) -> io::Result<EdgeKey> {
    let key = EdgeKey::random();
    let (path, new) = (data.join(KEY), data.join(format!("{KEY}.new")));
    let text: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(data)?.sync_all()?;
    Ok(key)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_stays_the_same_and_is_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        let first = key(data.path()).unwrap();
        assert_eq!(key(data.path()).unwrap(), first);
        let mode = fs::metadata(data.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(key(other.path()).unwrap(), first);
    }

    #[test]
    fn a_file_that_is_no_key_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(KEY), "nonsense").unwrap();
        let error = key(data.path()).unwrap_err();
        assert!(error.hints.iter().any(|hint| hint.contains("edge.key")), "{:?}", error.hints);
        assert_eq!(fs::read_to_string(data.path().join(KEY)).unwrap(), "nonsense");
    }

    #[test]
    fn what_is_reserved_is_listened_to_when_that_is_wanted() {
        let reserved = Reserved::bound(0).unwrap();
        let address = rustix::net::getsockname(&reserved.0).unwrap();
        let address = SocketAddrV4::try_from(address).unwrap();
        assert!(TcpStream::connect(address).is_err());
        let app = reserved.door();
        let listener = app.open().unwrap();
        assert_eq!(listener.local_addr().unwrap().to_string(), address.to_string());
        TcpStream::connect(address).unwrap();
    }
}
