//! How many connections a listener has, in all and of each neighbour.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connections of listeners. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Crowd {
    most: u32,
    most_of_one: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    of: HashMap<IpAddr, u32>,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub struct Place {
    of: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Crowd {
    /// Room for so many, and for so many of one neighbourhood.
    #[must_use]
    pub fn new(most: u32, most_of_one: u32) -> Self {
        Self { most, most_of_one, counts: Arc::default() }
    }

    /// A place for a connection from this address, if there is one left.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let of = neighbourhood(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.of.get(&of).copied().unwrap_or_default();
        if counts.all >= self.most || own >= self.most_of_one {
            return None;
        }
        counts.all += 1;
        counts.of.insert(of, own + 1);
        Some(Place { of, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.of.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                counts.of.remove(&self.of);
            }
        }
    }
}

/// A connection that has its place for as long as it is open: one that becomes a WebSocket or a
/// stream of bytes goes on when nobody serves HTTP on it any more.
#[derive(Debug)]
pub struct Placed<S> {
    // Closed before its place is free.
    stream: S,
    _place: Place,
}

impl<S> Placed<S> {
    /// A connection that has this place.
    pub fn new(stream: S, place: Place) -> Self {
        Self { stream, _place: place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whom an address stands for: one machine, or whoever has a network of IPv6.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let crowd = Crowd::new(3, 2);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none(), "its own are taken");
        let _third = enter("192.0.2.2").unwrap();
        assert!(enter("192.0.2.3").is_none(), "all are taken");
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        assert_eq!(crowd.counts.lock().unwrap().all, 2);
    }

    #[test]
    fn a_network_of_ipv6_is_one_neighbour() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
