//! Message sockets between our own processes: one datagram is one message, with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The most descriptors one message carries.
pub const MAX_DESCRIPTORS: usize = 16;

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What one message brought.
#[derive(Debug)]
pub struct Received {
    /// Length of the message in bytes; 0 is the end of the stream.
    pub length: usize,
    /// The descriptors that came with it, in order, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Two ends, connected to each other.
    ///
    /// # Errors
    ///
    /// The kernel's error, at a descriptor limit.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(left), Self(right)))
    }

    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ECONNREFUSED` when nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Sends one message with `descriptors`.
    ///
    /// # Errors
    ///
    /// The kernel's error: `EPIPE` when the other end is gone (no signal is raised), `EMSGSIZE`
    /// for a message that is larger than the socket's buffer.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(
                &self.0,
                &[IoSlice::new(message)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        })?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one message into `buffer`; blocks until there is one.
    ///
    /// # Errors
    ///
    /// The kernel's error; `InvalidData` when the message or its descriptors were cut short.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let result = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
        if result.flags.intersects(cut) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message cut short"));
        }
        Ok(Received { length: result.bytes, descriptors })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// A listening `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// The kernel's error; `EADDRINUSE` when the path exists.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, 16)?;
        Ok(Self(socket))
    }

    /// Accepts one connection; blocks until there is one.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn accept(&self) -> io::Result<Channel> {
        let socket =
            rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC))?;
        Ok(Channel(socket))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_keeps_its_bounds_and_brings_its_descriptors() {
        let (left, right) = Channel::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        left.send(b"one", &[writer.as_fd()]).unwrap();
        left.send(b"two", &[]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let received = right.receive(&mut buffer).unwrap();
        assert_eq!((&buffer[..received.length], received.descriptors.len()), (&b"one"[..], 1));
        let mut writer = std::fs::File::from(received.descriptors.into_iter().next().unwrap());
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(right.receive(&mut buffer).unwrap().length, 3);
        drop(left);
        assert_eq!(right.receive(&mut buffer).unwrap().length, 0);
    }

    #[test]
    fn a_message_that_is_too_long_is_an_error() {
        let (left, right) = Channel::pair().unwrap();
        left.send(&[7; 32], &[]).unwrap();
        assert_eq!(right.receive(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
