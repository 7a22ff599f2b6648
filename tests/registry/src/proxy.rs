//! A way to a registry that can be lost.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Passes connections on, until it is told to lose them. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    way: Mutex<Way>,
    changed: Condvar,
}

/// How the way to the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// So many more bytes of answers, then it is cut.
    Cuts(u64),
    /// So many more bytes of answers, then nothing more comes, and nothing ends either.
    Stalls(u64),
    Stalled,
    Cut,
    /// For good.
    Closed,
}

impl Proxy {
    /// Listens at a port of its own before the registry at `target`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let state = Arc::new(State { way: Mutex::new(Way::Open), changed: Condvar::new() });
        let (target, shared) = (target.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming() {
                if *shared.way() == Way::Closed {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else {
                    continue;
                };
                let shared = Arc::clone(&shared);
                thread::spawn(move || pass(client, server, &shared));
            }
        });
        Ok(Self { address, state })
    }

    /// Host and port, in the place of the registry's.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Loses every connection after so many more bytes of answers, and every new one at once.
    pub fn cut_after(&self, bytes: u64) {
        self.state.set(Way::Cuts(bytes));
    }

    /// Lets nothing through after so many more bytes of answers, and ends nothing.
    pub fn stall_after(&self, bytes: u64) {
        self.state.set(Way::Stalls(bytes));
    }

    /// Returns when the bytes of [`Proxy::cut_after`] or [`Proxy::stall_after`] have gone through.
    pub fn wait_until_cut(&self) {
        let mut way = self.state.way();
        while matches!(*way, Way::Open | Way::Cuts(_) | Way::Stalls(_)) {
            way = self.state.changed.wait(way).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Proxy::wait_until_cut`], but for no longer than this: what a client has already it may
    /// not ask for again.
    pub fn wait_until_cut_for(&self, most: Duration) {
        let way = self.state.way();
        let waits = |way: &mut Way| matches!(way, Way::Open | Way::Cuts(_) | Way::Stalls(_));
        let waited = self.state.changed.wait_timeout_while(way, most, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.state.set(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.set(Way::Closed);
        // The listener looks at the state when somebody comes.
        drop(TcpStream::connect(&self.address));
    }
}

impl State {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, way: Way) {
        *self.way() = way;
        self.changed.notify_all();
    }

    /// How many of `wanted` bytes may pass now; none when the connection is lost. Waits while the
    /// way is stalled.
    fn take(&self, wanted: usize) -> usize {
        let mut way = self.way();
        loop {
            let (Way::Cuts(left) | Way::Stalls(left)) = *way else {
                match *way {
                    Way::Open => return wanted,
                    Way::Stalled => {
                        way = self.changed.wait(way).unwrap_or_else(PoisonError::into_inner);
                        continue;
                    }
                    _ => return 0,
                }
            };
            let passed = left.min(wanted as u64);
            let rest = left - passed;
            *way = match *way {
                Way::Stalls(_) if rest == 0 => Way::Stalled,
                Way::Stalls(_) => Way::Stalls(rest),
                _ if rest == 0 => Way::Cut,
                _ => Way::Cuts(rest),
            };
            self.changed.notify_all();
            if passed > 0 {
                return usize::try_from(passed).unwrap_or(wanted);
            }
        }
    }
}

fn pass(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        drop(io::copy(&mut from_client, &mut to_server)); // either end may go at any time
        drop(to_server.shutdown(Shutdown::Write));
    });
    drop(answers(&server, &client, state)); // the same
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

fn answers(mut server: &TcpStream, mut client: &TcpStream, state: &State) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = server.read(&mut buffer)?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let may = state.take(rest.len());
            let (now, later) = rest.split_at(may);
            if now.is_empty() {
                return Ok(());
            }
            client.write_all(now)?;
            rest = later;
        }
    }
}
