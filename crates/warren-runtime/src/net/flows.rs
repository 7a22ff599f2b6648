//! Connections of sandboxes that are gone.
//!
//! The kernel remembers a connection by its addresses for as long as one side speaks. A slot's next
//! sandbox has the addresses of the one before: what its predecessor's peers still send would reach
//! it as answers. So they are forgotten before the slot is anybody's again.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use warren_sys::netlink::{NetlinkError, Socket, conntrack};

use super::{NetError, worker::Workers};

const OPERATION: &str = "forget connections of a sandbox";

/// What forgets connections.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Kept open: closing one waits for what changed in the packet filters. None before it is used.
    socket: Mutex<Option<Socket>>,
    /// Whose connections are to be forgotten.
    waiting: Mutex<BTreeSet<IpAddr>>,
    complained: AtomicBool,
}

impl Flows {
    /// Forgets what was begun from these addresses, whose interfaces are gone.
    ///
    /// A kernel that cannot list connections is complained of once, and is no error: sandboxes on
    /// it could not end otherwise.
    pub(super) fn forget(
        &self,
        workers: &Workers,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), NetError> {
        self.waiting().extend(addresses);
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = match held.take() {
            Some(socket) => socket,
            None => workers
                .run(OPERATION, |_home| Socket::netfilter())?
                .map_err(NetError::netlink(OPERATION))?,
        };
        // Those who came while another was at it go together: listing costs the same for all. Where
        // there are none, whoever held it has done ours.
        let all = std::mem::take(&mut *self.waiting());
        if all.is_empty() {
            *held = Some(socket);
            return Ok(());
        }
        match conntrack::forget(&mut socket, &all) {
            Ok(_count) => {}
            Err(error @ NetlinkError::Refused { .. }) => self.complain(&error),
            Err(error) => {
                self.waiting().extend(all);
                return Err(NetError::netlink(OPERATION)(error));
            }
        }
        *held = Some(socket);
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<IpAddr>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, error: &NetlinkError) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "connections of sandboxes that are gone are not forgotten (nf_conntrack_netlink): \
                 the next one at an address may get what was sent to the last"
            );
        }
    }
}
