//! The host's own addresses, where the server is in a network namespace of its own.
//!
//! Such a server's packets are carried by a program outside, over sockets of the host. Those reach
//! the host's addresses as any program of it does, with all that listens there; in the server's
//! own namespace nothing says that the addresses are the host's. A socket that was opened outside
//! says it: it belongs to the namespace that it was made in, for as long as it is open.

use std::{
    collections::BTreeSet,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use warren_sys::netlink::{
    NetlinkError, Socket,
    route::{self, ADDRESS_EVENTS},
};

use super::{NetError, policy::Policies};

/// How often the addresses are looked at when no change is announced; also how long the thread
/// stays when nobody needs it.
const INTERVAL: Duration = Duration::from_secs(30);

/// A network namespace, seen from another one.
#[derive(Debug)]
pub struct Outside {
    asking: Mutex<Socket>,
    /// Taken by the thread that listens.
    hearing: Mutex<Option<Socket>>,
}

impl Outside {
    /// That of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError`].
    pub fn here() -> Result<Self, NetlinkError> {
        let hearing = Socket::route()?;
        hearing.subscribe(ADDRESS_EVENTS)?; // before anybody asks, so that no change is missed
        Ok(Self { asking: Mutex::new(Socket::route()?), hearing: Mutex::new(Some(hearing)) })
    }

    /// The addresses that this host has now.
    pub(super) fn addresses(&self) -> Result<BTreeSet<Ipv4Addr>, NetError> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let found = route::addresses(&mut asking);
        let found = found.map_err(NetError::netlink("look at the host's own addresses"))?;
        Ok(found.into_iter().map(|it| it.address).filter(|it| !it.is_loopback()).collect())
    }

    /// Keeps what sandboxes may not reach in step with these addresses, for as long as there are
    /// policies. To be called once.
    pub(super) fn follow(self: &Arc<Self>, policies: &Arc<Policies>) -> io::Result<()> {
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hearing) = hearing.take() else { return Ok(()) };
        let (outside, policies) = (Arc::clone(self), Arc::downgrade(policies));
        let thread = thread::Builder::new().name("warren-outside".into());
        thread.spawn(move || outside.watch(hearing, &policies)).map(|_detached| ())
    }

    fn watch(&self, mut hearing: Socket, policies: &Weak<Policies>) {
        loop {
            let waited = hearing.wait(INTERVAL);
            let Some(policies) = policies.upgrade() else { return };
            let changed = self.addresses().and_then(|found| policies.set_host(found));
            if let Err(error) = changed {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "sandboxes may reach the host: {error}");
            }
            if let Err(error) = waited {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "changes of the host's addresses are not seen");
                return;
            }
        }
    }
}
