//! Netlink: the kernel's sockets for links, addresses, routes and packet filters.
//!
//! [`route`] and [`nftables`] know their families; here are the socket, which belongs to the
//! network namespace that its maker was in, and the exchange of requests and answers. There is
//! no policy and no cache: what is asked is sent, and the kernel's answer is returned.

pub mod conntrack;
pub mod message;
pub mod nflog;
pub mod nftables;
pub mod route;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink as protocol,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use message::{Answer, Attributes, Request, flags, split_answers};

/// How long the kernel may take to answer. It answers within the system call, save for locks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the buffer for answers; the kernel fills at most 32 KiB of it for a list.
const BUFFER: usize = 64 * 1024;

/// How much one datagram to the kernel may have, in bytes, where this process may raise the limit:
/// what belongs together goes as one, and the usual limit is met by some dozens of rules.
const SEND_BUFFER: libc::c_int = 64 << 20;
/// How much may wait to be read: announcements come in bursts.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// `NLMSG_ERROR`: an error, or with code 0 success.
const KIND_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a list.
const KIND_DONE: u16 = 3;
/// In an error's flags: attributes with the kernel's explanation follow.
const FLAG_EXPLAINED: u16 = 0x200;
/// In an error's flags: the request's body is not repeated.
const FLAG_CAPPED: u16 = 0x100;
/// The attribute with the kernel's explanation as text.
const EXPLANATION: u16 = 1;

/// Why an exchange with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("could not {operation}")]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to {operation}{}", explained(.explanation))]
    Refused {
        /// What was asked, in words.
        operation: &'static str,
        /// Place of the refused request among those sent together, from 0.
        index: usize,
        /// What the kernel says about it; often empty.
        explanation: String,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// A request has a value too long for its length field, or a NUL within text.
    #[error("could not express the request to {operation}")]
    Inexpressible {
        /// What was to be asked, in words.
        operation: &'static str,
    },
    /// The kernel's tables kept changing while they were listed.
    #[error("could not {operation}: the kernel's tables kept changing")]
    Unstable {
        /// What was asked, in words.
        operation: &'static str,
    },
}

impl NetlinkError {
    /// The kernel's error number, such as `libc::EEXIST`, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Inexpressible { .. } | Self::Unstable { .. } => None,
        }
    }
}

fn explained(explanation: &str) -> String {
    if explanation.is_empty() { String::new() } else { format!(": {explanation}") }
}

/// A netlink socket of one family in one network namespace.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket for links, addresses and routes in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Socket`].
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open(None)
    }

    /// Opens a socket for packet filters in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Socket`]; `EPROTONOSUPPORT` where the kernel has no netfilter.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(Some(protocol::NETFILTER))
    }

    /// A socket that another process has opened, in its own network namespace.
    pub fn of_another(descriptor: OwnedFd) -> Self {
        Self { descriptor, sequence: 0, buffer: vec![0; BUFFER] }
    }

    fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let descriptor = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )
        .map_err(failed("open a netlink socket"))?;
        set_socket_timeout(&descriptor, Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(failed("set a netlink socket's timeout"))?;
        // Both only make answers better; a kernel without them still gives an error number.
        let _best_effort = set(&descriptor, (libc::SOL_NETLINK, libc::NETLINK_EXT_ACK), 1);
        let _best_effort = set(&descriptor, (libc::SOL_NETLINK, libc::NETLINK_CAP_ACK), 1);
        let buffers = [
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER),
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER),
        ];
        for (by_force, within_limits, bytes) in buffers {
            // Ordinary users get what the host allows them; who sends too much is told.
            if set(&descriptor, (libc::SOL_SOCKET, by_force), bytes).is_err() {
                let _best_effort = set(&descriptor, (libc::SOL_SOCKET, within_limits), bytes);
            }
        }
        Ok(Self::of_another(descriptor))
    }

    /// Also receives what the kernel announces to these groups (a bit each, group 1 the lowest).
    /// A socket that does is for [`Socket::wait`] alone.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Socket`].
    pub fn subscribe(&self, groups: u32) -> Result<(), NetlinkError> {
        let address = protocol::SocketAddrNetlink::new(0, groups);
        rustix::net::bind(&self.descriptor, &address)
            .map_err(failed("subscribe to the kernel's announcements"))
    }

    /// Waits until something is announced, and forgets what. Returns whether something was within
    /// `timeout`; announcements that were lost count as one.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Socket`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, NetlinkError> {
        let operation = "wait for the kernel's announcements";
        let timeout = Timespec::try_from(timeout)
            .map_err(|_too_long| failed(operation)(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let mut waiting = [PollFd::new(&self.descriptor, PollFlags::IN)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(failed(operation)(error)),
        }
        // All that has come so far is one event.
        loop {
            match rustix::net::recv(&self.descriptor, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(failed(operation)(error)),
            }
        }
    }

    /// The messages of the next announcement; none where none came within `timeout`, or where some
    /// were lost.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Socket`].
    pub fn next(&mut self, timeout: Duration) -> Result<Vec<Answer>, NetlinkError> {
        let operation = "read the kernel's announcements";
        let timeout = Timespec::try_from(timeout)
            .map_err(|_too_long| failed(operation)(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let mut waiting = [PollFd::new(&self.descriptor, PollFlags::IN)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(failed(operation)(error)),
        }
        match rustix::net::recv(&self.descriptor, &mut *self.buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => Ok(split_answers(self.buffer.get(..length).unwrap_or_default())),
            Err(Errno::NOBUFS | Errno::INTR | Errno::AGAIN) => Ok(Vec::new()),
            Err(error) => Err(failed(operation)(error)),
        }
    }

    /// Sends `requests` in one datagram and waits until the kernel has worked through them.
    ///
    /// It does so also after one that it refuses (nf_tables then undoes the whole batch).
    /// `operation` names the work in errors.
    ///
    /// # Errors
    ///
    /// The first refusal, with the place of the request in `requests`.
    pub fn transact(
        &mut self,
        operation: &'static str,
        requests: &mut [Request],
    ) -> Result<(), NetlinkError> {
        // Refusals are answered in any case, in order; success need only be said at the end,
        // unless the caller has chosen where.
        if !requests.iter().any(Request::wants_ack) {
            requests.iter_mut().next_back().into_iter().for_each(Request::ask_ack);
        }
        let first = self.send(operation, requests)?;
        let mut waiting = requests.iter().filter(|request| request.wants_ack()).count();
        let mut refused = None;
        while waiting > 0 {
            // All answers are there when sending returns. After a refusal none may follow.
            let wait = if refused.is_none() { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            let Some(answers) = self.receive(operation, wait)? else { break };
            for answer in answers {
                let index = answer.sequence.wrapping_sub(first) as usize;
                let Some(request) = requests.get(index) else { continue }; // of a former exchange
                let counts = answer.kind == KIND_ERROR && request.wants_ack();
                waiting = waiting.saturating_sub(usize::from(counts));
                refused = refused.or(verdict(operation, index, &answer).err());
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends one request whose answer is a list, and returns the list.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or [`NetlinkError::Unstable`].
    pub fn list(
        &mut self,
        operation: &'static str,
        mut request: Request,
    ) -> Result<Vec<Answer>, NetlinkError> {
        for _attempt in 0..8 {
            if let Some(answers) = self.list_once(operation, &mut request)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Unstable { operation })
    }

    /// One attempt at a list; `None` when the kernel says that it changed meanwhile.
    fn list_once(
        &mut self,
        operation: &'static str,
        request: &mut Request,
    ) -> Result<Option<Vec<Answer>>, NetlinkError> {
        let sequence = self.send(operation, std::slice::from_mut(request))?;
        let mut answers = Vec::new();
        let mut intact = true;
        loop {
            for answer in self.receive(operation, RecvFlags::empty())?.unwrap_or_default() {
                if answer.sequence != sequence {
                    continue;
                }
                intact &= answer.flags & flags::DUMP_INTERRUPTED == 0;
                match answer.kind {
                    KIND_DONE => return Ok(intact.then_some(answers)),
                    KIND_ERROR => {
                        verdict(operation, 0, &answer)?;
                        return Ok(intact.then_some(answers));
                    }
                    _ => answers.push(answer),
                }
            }
        }
    }

    /// Sends one request whose answer is one message, and returns that.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn get(
        &mut self,
        operation: &'static str,
        mut request: Request,
    ) -> Result<Answer, NetlinkError> {
        let sequence = self.send(operation, std::slice::from_mut(&mut request))?;
        loop {
            for answer in self.receive(operation, RecvFlags::empty())?.unwrap_or_default() {
                if answer.sequence == sequence {
                    verdict(operation, 0, &answer)?;
                    return Ok(answer);
                }
            }
        }
    }

    /// Sends all requests as one datagram; returns the sequence number of the first.
    fn send(
        &mut self,
        operation: &'static str,
        requests: &mut [Request],
    ) -> Result<u32, NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(256 * requests.len());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let bytes = request.finish(self.sequence);
            datagram.extend_from_slice(bytes.ok_or(NetlinkError::Inexpressible { operation })?);
        }
        rustix::net::send(&self.descriptor, &datagram, SendFlags::empty())
            .map_err(failed("send to a netlink socket"))?;
        Ok(first)
    }

    /// The messages of one datagram; none when there is none and `wait` says not to wait.
    fn receive(
        &mut self,
        operation: &'static str,
        wait: RecvFlags,
    ) -> Result<Option<Vec<Answer>>, NetlinkError> {
        loop {
            match rustix::net::recv(&self.descriptor, &mut *self.buffer, wait) {
                Ok((_, length)) => {
                    let answers = split_answers(self.buffer.get(..length).unwrap_or_default());
                    return Ok(Some(answers));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait.contains(RecvFlags::DONTWAIT) => {
                    return Ok(None);
                }
                Err(error) => return Err(failed(operation)(error)),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Reads an `NLMSG_ERROR`; any other message is a success.
///
/// Its body is the error number (`i32`, negative or 0), then the header of the request (and its
/// body unless capped), then attributes.
fn verdict(operation: &'static str, index: usize, answer: &Answer) -> Result<(), NetlinkError> {
    if answer.kind != KIND_ERROR {
        return Ok(());
    }
    let Some((code, rest)) = answer.body.split_first_chunk::<4>() else { return Ok(()) };
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(());
    }
    Err(NetlinkError::Refused {
        operation,
        index,
        explanation: explanation(answer.flags, rest).unwrap_or_default(),
        source: io::Error::from_raw_os_error(code.saturating_neg()),
    })
}

/// The kernel's own words about an error; `rest` starts at the request's header.
fn explanation(answer_flags: u16, rest: &[u8]) -> Option<String> {
    if answer_flags & FLAG_EXPLAINED == 0 {
        return None;
    }
    let request = match answer_flags & FLAG_CAPPED {
        0 => u32::from_ne_bytes(*rest.first_chunk::<4>()?) as usize,
        _ => message::HEADER,
    };
    let attributes = Attributes::new(rest.get(request.next_multiple_of(4)..)?);
    attributes.find_text(EXPLANATION).map(str::to_owned)
}

fn failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> NetlinkError {
    move |source| NetlinkError::Socket { operation, source: source.into() }
}

/// Sets an option, by its level and number, to an integer. `netlink(7)`, `socket(7)`.
fn set(
    socket: impl AsFd,
    (level, option): (libc::c_int, libc::c_int),
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the length of the call, and the kernel reads exactly
    // `size_of::<c_int>()` bytes from `value`, which lives until the end of this function.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flags: u16, body: &[u8]) -> Answer {
        Answer { kind: KIND_ERROR, flags, sequence: 1, body: body.to_vec() }
    }

    #[test]
    fn an_error_carries_the_kernels_words() {
        let mut body = (-17_i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&[7, 0, 1, 0, b'n', b'o', 0, 0]);
        let error = verdict("do it", 3, &refusal(FLAG_EXPLAINED | FLAG_CAPPED, &body)).unwrap_err();
        assert_eq!(error.errno(), Some(17));
        assert_eq!(error.to_string(), "the kernel refused to do it: no");
        assert!(matches!(error, NetlinkError::Refused { index: 3, .. }));
    }

    #[test]
    fn an_error_of_zero_and_a_short_one_are_no_refusal() {
        assert!(verdict("x", 0, &refusal(0, &[0; 20])).is_ok());
        assert!(verdict("x", 0, &refusal(0, &[1, 2])).is_ok());
        let cut = verdict("x", 0, &refusal(FLAG_EXPLAINED, &(-1_i32).to_ne_bytes()));
        assert_eq!(cut.unwrap_err().errno(), Some(1));
    }

    #[test]
    fn links_of_this_namespace_can_be_listed() {
        let mut socket = Socket::route().unwrap();
        let links = route::links(&mut socket).unwrap();
        assert!(links.iter().any(|link| link.name == "lo"), "{links:?}");
    }
}
