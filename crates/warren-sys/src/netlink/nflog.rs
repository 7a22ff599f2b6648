//! What rules log, packet by packet.

use std::time::Duration;

use super::{
    NetlinkError, Socket,
    message::{Answer, Request},
};

const SUBSYSTEM: u16 = 4;
const MESSAGE_PACKET: u16 = SUBSYSTEM << 8;
const MESSAGE_CONFIG: u16 = SUBSYSTEM << 8 | 1;

/// `NFULA_*`.
mod attribute {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const THRESHOLD: u16 = 5;
    pub(super) const PAYLOAD: u16 = 9;
    pub(super) const PREFIX: u16 = 10;
}

/// A packet that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its first bytes, from the IP header on.
    pub bytes: Vec<u8>,
    /// What the rule says about it.
    pub prefix: String,
}

/// Has the packets of a group sent to this socket, `bytes` of each. One socket has a group at a
/// time: `EPERM` where another one does, or `EBUSY`.
///
/// # Errors
///
/// As [`Socket::transact`].
pub fn bind(socket: &mut Socket, group: u16, bytes: u32) -> Result<(), NetlinkError> {
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    let [high, low] = group.to_be_bytes();
    let config = || Request::new(MESSAGE_CONFIG, 0, &[0, 0, high, low]);
    let [a, b, c, d] = bytes.to_be_bytes();
    let mut command = config();
    command.bytes(attribute::COMMAND, &[BIND]);
    let mut mode = config();
    mode.bytes(attribute::MODE, &[a, b, c, d, COPY_PACKET, 0]).be32(attribute::THRESHOLD, 1);
    socket.transact("listen to logged packets", &mut [command, mode])
}

/// The packets that come next; none where none came within `timeout` or some were lost.
///
/// # Errors
///
/// [`NetlinkError::Socket`].
pub fn next(socket: &mut Socket, timeout: Duration) -> Result<Vec<Logged>, NetlinkError> {
    Ok(socket.next(timeout)?.iter().filter_map(read).collect())
}

fn read(answer: &Answer) -> Option<Logged> {
    if answer.kind != MESSAGE_PACKET {
        return None;
    }
    let (_, attributes) = answer.split::<4>()?;
    Some(Logged {
        bytes: attributes.find(attribute::PAYLOAD)?.to_vec(),
        prefix: attributes.find_text(attribute::PREFIX).unwrap_or_default().to_owned(),
    })
}
