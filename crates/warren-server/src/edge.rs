//! The edge: ports of sandboxes, by name, for whoever may reach them.
//!
//! ```text
//! 3000-sb-....DOMAIN ──▶ place ──▶ pass ──▶ ready ──▶ forward ──▶ pool, link ──▶ the port
//!                        which     who is   it runs,  headers     HTTP/1.1, or
//!                        port?     let in?  or wakes              h2c for gRPC
//! ```
//!
//! Every request is parsed, looked at and written anew: connections are never handed through, so
//! no request rides behind another one that was let in.

mod agent;
mod answer;
mod forward;
mod h2c;
mod headers;
mod link;
mod links;
mod pass;
mod place;
mod pool;
mod settings;
mod slots;
mod token;
mod upgrade;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use answer::Refusal;
pub(crate) use headers::Visitor;
pub use links::Door;
pub(crate) use links::{CameBy, Link as PortLink, WantedLink};
pub(crate) use place::{Names, Place, place};
pub use settings::{AddressBlock, Domain, InvalidBlock, InvalidDomain, Settings};
pub use token::EdgeKey;

use agent::Remembered;
use links::Listening;
use pool::Pool;
use slots::Slots;
use token::Signer;

/// What all requests to ports share.
#[derive(Debug)]
pub(crate) struct Edge {
    settings: Settings,
    signer: Signer,
    pool: Pool,
    slots: Slots,
    listening: Listening,
    remembered: Remembered,
}

impl Edge {
    pub(crate) fn new(
        settings: Settings,
        tasks: TaskTracker,
        stopping: CancellationToken,
        door: Option<Door>,
    ) -> Self {
        let signer = Signer::new(&settings.key);
        let slots = Slots::new(settings.requests_per_sandbox);
        let listening = Listening::new(door);
        let (pool, remembered) = (Pool::new(tasks, stopping), Remembered::default());
        Self { settings, signer, pool, slots, listening, remembered }
    }

    /// The domain that names of ports are below.
    pub(crate) fn domain(&self) -> &str {
        self.settings.domain.name()
    }
}
