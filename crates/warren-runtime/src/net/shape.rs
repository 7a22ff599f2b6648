//! How fast a sandbox may send and receive.
//!
//! What it receives leaves by the host's interface to it, what it sends by its own: each has a
//! queue that lets so much pass. The sandbox's namespace is the server's, so nobody inside can
//! take the queue away.

use std::os::fd::{AsFd, BorrowedFd};

use warren_core::egress::Bandwidth;
use warren_sys::{
    netlink::{NetlinkError, Socket, route},
    netns,
};

use super::{Errno, NetError, interface_name, pair::GUEST_LINK, refused_with, worker::Workers};

const OPERATION: &str = "limit the speed of an interface";

/// Sets both limits; none takes a limit away.
pub(super) fn set(
    workers: &Workers,
    host: &mut Socket,
    slot: u32,
    bandwidth: Bandwidth,
    netns: BorrowedFd<'_>,
) -> Result<(), NetError> {
    let link = route::link(host, &interface_name(slot)).map_err(NetError::netlink(OPERATION))?;
    if let Some(link) = link {
        limit(host, link.index, bandwidth.down).map_err(NetError::netlink(OPERATION))?;
    }
    let inside = netns.try_clone_to_owned().map_err(NetError::host("hold a namespace"))?;
    workers.run(OPERATION, move |_home| {
        netns::enter(inside.as_fd()).map_err(NetError::host("enter a namespace"))?;
        let mut guest = Socket::route().map_err(NetError::netlink(OPERATION))?;
        limit(&mut guest, GUEST_LINK, bandwidth.up).map_err(NetError::netlink(OPERATION))
    })?
}

fn limit(socket: &mut Socket, link: u32, speed: Option<u64>) -> Result<(), NetlinkError> {
    let request = match speed {
        Some(speed) => route::limit_rate(link, speed),
        None => route::unlimit_rate(link),
    };
    match socket.transact(OPERATION, &mut [request]) {
        // There was no limit.
        Err(error)
            if speed.is_none()
                && (refused_with(&error, Errno::NOENT) || refused_with(&error, Errno::INVAL)) =>
        {
            Ok(())
        }
        other => other,
    }
}
