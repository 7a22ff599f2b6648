//! Connections to ports on a sandbox's own loopback.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, sockopt::socket_error},
};
use warren_sys::netns;

use super::{Errno, NetError, worker::Workers};

/// How long a connection may take: a full backlog never answers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to 127.0.0.1, then ::1. Only the sockets are made inside; a socket stays in the
/// namespace it was made in, so the wait for the guest's answer is on the caller's thread.
pub(super) fn dial(
    workers: &Workers,
    netns: BorrowedFd<'_>,
    port: u16,
) -> Result<TcpStream, NetError> {
    let inside = netns.try_clone_to_owned().map_err(NetError::host("hold a namespace"))?;
    let [four, six] = workers.run("open a socket in a namespace", move |_home| {
        netns::enter(inside.as_fd()).map_err(NetError::host("enter a namespace"))?;
        Ok::<_, NetError>([AddressFamily::INET, AddressFamily::INET6].map(|family| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        }))
    })??;
    let connected = four
        .map_err(io::Error::from)
        .and_then(|socket| connect(socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()));
    let connected = connected.or_else(|first| {
        let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0);
        let second =
            six.map_err(io::Error::from).and_then(|socket| connect(socket, address.into()));
        second.map_err(|_as_telling_as_the_first| first)
    });
    connected.map_err(NetError::host("connect to a port of a sandbox"))
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

/// Connects a non-blocking socket within [`TIMEOUT`] and makes it blocking.
fn connect(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait(&socket)?,
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn wait(socket: &OwnedFd) -> io::Result<()> {
    let timeout = Timespec::try_from(TIMEOUT).map_err(|_too_long| io::ErrorKind::InvalidInput)?;
    if poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&timeout))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(socket_error(socket)??)
}
