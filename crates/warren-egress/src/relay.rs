//! Bytes in both directions between two sockets, without looking at them.
//!
//! The first of each direction go through a buffer: most connections are short. From then on they
//! go from socket to socket through a pipe, by `splice(2)`, and never into this process.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream, time::sleep};

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{io::end, passport::Passport};

/// How many bytes go through a buffer before a pipe is worth its two descriptors.
const BULK: u64 = 256 * 1024;
/// The buffer of each direction.
const BUFFER: usize = 16 * 1024;
/// How much the pipe of each direction holds.
const PIPE: usize = 512 * 1024;

/// Passes bytes on until both sides have said that they are done, one of them breaks, or nothing
/// has moved for `idle` (twice that at most). `first` is what was read from the inside already.
///
/// # Errors
///
/// The first that either side reports. Both are reset then, as one connection would be.
pub(crate) async fn relay(
    first: &[u8],
    inside: &TcpStream,
    outside: &TcpStream,
    passport: &dyn Passport,
    idle: Duration,
) -> io::Result<()> {
    let moved = AtomicU64::new(0);
    let sent = |bytes: u64| {
        moved.fetch_add(bytes, Ordering::Relaxed);
        passport.count(bytes, 0);
    };
    let received = |bytes: u64| {
        moved.fetch_add(bytes, Ordering::Relaxed);
        passport.count(0, bytes);
    };
    let there = async {
        write_all(outside, first).await?;
        sent(first.len() as u64);
        pump(inside, outside, &sent).await
    };
    let back = pump(outside, inside, &received);
    let ended = tokio::select! {
        ended = async { tokio::try_join!(there, back) } => ended.map(|_both| ()),
        () = idle_for(&moved, idle) => Err(io::ErrorKind::TimedOut.into()),
    };
    if ended.is_err() {
        reset(inside);
        reset(outside);
    }
    ended
}

/// Has a socket say that the connection broke, and not that it ended, when it is closed.
pub(crate) fn reset(stream: &TcpStream) {
    // One that is gone already has nothing to say.
    let _gone = stream.set_zero_linger();
}

/// Returns when nothing has moved for a while.
pub(crate) async fn idle_for(moved: &AtomicU64, idle: Duration) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        sleep(idle).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Passes one direction on, to its end, and says the end to the other side.
async fn pump(from: &TcpStream, to: &TcpStream, count: &impl Fn(u64)) -> io::Result<()> {
    if through_buffer(from, to, count, BULK).await? == Flow::Goes {
        match pipe() {
            Ok((output, input)) => through_pipe(from, to, count, &output, &input).await?,
            // Out of descriptors: slower is better than not at all.
            Err(_none) => drop(through_buffer(from, to, count, u64::MAX).await?),
        }
    }
    end(to)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// There may be more.
    Goes,
    /// That was all.
    Ended,
}

async fn through_buffer(
    from: &TcpStream,
    to: &TcpStream,
    count: &impl Fn(u64),
    most: u64,
) -> io::Result<Flow> {
    let mut buffer = vec![0; BUFFER];
    let mut moved = 0;
    while moved < most {
        from.readable().await?;
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(Flow::Ended),
            Ok(read) => read,
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => continue,
            Err(source) => return Err(source),
        };
        write_all(to, buffer.get(..read).unwrap_or_default()).await?;
        moved += read as u64;
        count(read as u64);
    }
    Ok(Flow::Goes)
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(source),
        }
    }
    Ok(())
}

/// A pipe: where to read from it, and where to write to.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A small pipe works as well.
    let _size = fcntl_setpipe_size(&input, PIPE);
    Ok((output, input))
}

async fn through_pipe(
    from: &TcpStream,
    to: &TcpStream,
    count: &impl Fn(u64),
    output: &OwnedFd,
    input: &OwnedFd,
) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        from.readable().await?;
        // The pipe is empty here, so only the socket can say that it would wait.
        let taken =
            from.try_io(Interest::READABLE, || Ok(splice(from, None, input, None, PIPE, flags)?));
        let mut held = match taken {
            Ok(0) => return Ok(()),
            Ok(taken) => taken,
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => continue,
            Err(source) => return Err(source),
        };
        count(held as u64);
        while held > 0 {
            to.writable().await?;
            let given =
                to.try_io(Interest::WRITABLE, || Ok(splice(output, None, to, None, held, flags)?));
            match given {
                Ok(given) => held = held.saturating_sub(given),
                Err(source) if source.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(source),
            }
        }
    }
}
