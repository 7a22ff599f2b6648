//! Connections to ports on a sandbox's own loopback.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::{net::TcpSocket, time::timeout};
use warren_sys::netns;

use super::{Errno, NetError, worker::Workers};

/// How long a connection may take: a full backlog never answers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets in the namespace of a sandbox, which are in no other for as long as they live.
#[derive(Debug)]
pub struct Dialling([Result<OwnedFd, Errno>; 2]);

/// Makes the sockets inside. Nothing in it waits for the guest.
pub(super) fn sockets(workers: &Workers, netns: BorrowedFd<'_>) -> Result<Dialling, NetError> {
    let inside = netns.try_clone_to_owned().map_err(NetError::host("hold a namespace"))?;
    workers.run("open a socket in a namespace", move |_home| {
        netns::enter(inside.as_fd()).map_err(NetError::host("enter a namespace"))?;
        Ok(Dialling([AddressFamily::INET, AddressFamily::INET6].map(|family| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        })))
    })?
}

impl Dialling {
    /// Connects to 127.0.0.1, then ::1. The guest may take its time to answer: no thread waits.
    ///
    /// # Errors
    ///
    /// [`NetError::Host`]: refused, or not answered in five seconds.
    pub async fn connect(self, port: u16) -> Result<tokio::net::TcpStream, NetError> {
        let Self([four, six]) = self;
        let connected = match connect(four, (Ipv4Addr::LOCALHOST, port).into()).await {
            Ok(stream) => Ok(stream),
            Err(first) => connect(six, (Ipv6Addr::LOCALHOST, port).into())
                .await
                .map_err(|_as_telling_as_the_first| first),
        };
        connected.map_err(NetError::host("connect to a port of a sandbox"))
    }
}

async fn connect(
    socket: Result<OwnedFd, Errno>,
    address: SocketAddr,
) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::from_std_stream(TcpStream::from(socket?));
    timeout(TIMEOUT, socket.connect(address)).await?
}

/// Listens on 127.0.0.1, in the namespace that the socket is made in.
pub(super) fn listen(
    workers: &Workers,
    netns: BorrowedFd<'_>,
    port: u16,
) -> Result<TcpListener, NetError> {
    let inside = netns.try_clone_to_owned().map_err(NetError::host("hold a namespace"))?;
    workers.run("open a socket in a namespace", move |_home| {
        netns::enter(inside.as_fd()).map_err(NetError::host("enter a namespace"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        listener.map_err(NetError::host("listen on a port of a sandbox"))
    })?
}
