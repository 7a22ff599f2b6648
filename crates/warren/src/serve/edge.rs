//! An address of this machine for browsers, where the server listens on no other.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    ops::RangeInclusive,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use warren_server::edge::Door;

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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

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
