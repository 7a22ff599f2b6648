//! The keepers of a host, and how guests end that they are the parents of.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::oneshot;
use warren_core::runtime::{RuntimeError, RuntimeEvent};
use warren_proto::keeper::Request;

use super::{Guest, Host, exit_of, lock};
use crate::{
    journal::Process,
    namespace::{
        KILL_TIMEOUT, adopt,
        keeper::{self, Exited, Keeper, Living},
    },
};

impl Host {
    /// The keeper that forks; started when there is none or the last one is worn.
    pub(crate) fn keeper(&self) -> Result<Arc<Keeper>, RuntimeError> {
        let mut keepers = lock(&self.keepers);
        let newest = keepers.last().filter(|it| it.runs(&self.agent) && !it.is_worn());
        if let Some(keeper) = newest {
            return Ok(Arc::clone(keeper));
        }
        for old in keepers.iter() {
            // One that does not hear it has gone already.
            drop(old.tell(&Request::Drain));
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let path = keeper::start(&self.run_dir, &self.agent, generation, &self.exit_records())
            .map_err(RuntimeError::host("start a keeper"))?;
        let (keeper, _none) = self.connect_keeper(&path)?;
        crate::rootless::hold(&self.run_dir, keeper.pid())
            .map_err(RuntimeError::host("write down who holds the namespaces"))?;
        keepers.push(Arc::clone(&keeper));
        Ok(keeper)
    }

    /// Connects to a keeper and hears of its guests from then on.
    pub(in crate::namespace) fn connect_keeper(
        &self,
        path: &Path,
    ) -> Result<(Arc<Keeper>, Living), RuntimeError> {
        let (me, other) = (self.me.clone(), self.me.clone());
        let name = path.to_owned();
        let exited = move |event: Exited| {
            if let Some(host) = me.upgrade() {
                host.exited(&event);
            }
        };
        let closed = move || {
            if let Some(host) = other.upgrade() {
                host.keeper_gone(&name);
            }
        };
        let (keeper, guests) = Keeper::connect(path, exited, closed)
            .map_err(RuntimeError::host("connect to the keeper"))?;
        Ok((Arc::new(keeper), guests))
    }

    /// Takes a keeper of an earlier server into use.
    pub(in crate::namespace) fn add_keeper(&self, keeper: Arc<Keeper>) {
        self.generation.fetch_max(keeper.generation() + 1, Ordering::Relaxed);
        let mut keepers = lock(&self.keepers);
        keepers.push(keeper);
        keepers.sort_by_key(|it| (it.runs(&self.agent), it.generation()));
    }

    /// A keeper has ended or died. Its guests live on, watched by this server from now on.
    fn keeper_gone(&self, path: &Path) {
        lock(&self.keepers).retain(|it| !it.is_at(path));
        drop(fs::remove_file(path));
        let orphans: Vec<_> = self
            .guests()
            .into_iter()
            .filter(|(_, guest)| guest.keeper.as_ref().is_some_and(|it| it.is_at(path)))
            .collect();
        if !orphans.is_empty() {
            tracing::warn!(guests = orphans.len(), "a keeper died; its guests go on");
        }
        for (id, guest) in orphans {
            adopt::watch(self, id, &guest);
            // Whoever has asked the keeper to kill it must not wait in vain.
            if lock(&self.guests).waiting.contains_key(&guest.slot) {
                self.kill_orphan(&guest);
            }
        }
    }

    /// Notes the end of a guest and tells whoever wants to know.
    pub(in crate::namespace) fn exited(&self, event: &Exited) {
        let mut guests = lock(&self.guests);
        let guest = guests.by_slot.get(&event.slot).copied().and_then(|id| {
            let guest = guests.by_id.get(&id)?;
            // The slot may have a later guest by now.
            (guest.process?.pid == event.pid).then(|| (id, Arc::clone(guest)))
        });
        let exit = exit_of(event.ending);
        if let Some((_, guest)) = &guest {
            // Before anybody can begin to wait for it.
            *lock(&guest.exit) = Some(exit.clone());
        }
        let waiting = guests.waiting.remove(&event.slot);
        drop(guests);
        if let Some((id, _)) = guest {
            // Without a listener there is nobody to tell.
            drop(self.events.send(RuntimeEvent::Exited { id, exit }));
        }
        if let Some(waiting) = waiting {
            // Who waited may have given up.
            waiting.send(()).ok();
        }
    }

    /// Kills a guest and waits until it is gone.
    pub(in crate::namespace) async fn kill(&self, guest: &Guest) -> Result<(), RuntimeError> {
        let gone = lock(&guest.exit).is_some() || !guest.process.is_some_and(Process::lives);
        if gone {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        lock(&self.guests).waiting.insert(guest.slot, tell);
        let request = Request::Kill { slot: guest.slot };
        let told_keeper = guest.keeper.as_ref().is_some_and(|it| it.tell(&request).is_ok());
        if !told_keeper {
            self.kill_orphan(guest);
        }
        // Waited for until it is noted and not only until it is so: whoever asks next, or hears of
        // exits, must not find it otherwise. One that was noted meanwhile is not told again.
        let noted = lock(&guest.exit).is_some();
        let ended = match noted {
            true => Ok(()),
            false => tokio::time::timeout(KILL_TIMEOUT, told).await.map(drop),
        };
        lock(&self.guests).waiting.remove(&guest.slot);
        match ended {
            Err(error) if guest.process.is_some_and(Process::lives) => {
                Err(RuntimeError::host("see the guest's end")(error))
            }
            _ => Ok(()),
        }
    }

    fn kill_orphan(&self, guest: &Guest) {
        if let Some(pidfd) = &guest.pidfd {
            // One that has gone is what was wanted.
            pidfd_send_signal(pidfd, Signal::KILL).ok();
        }
        // A frozen process takes its signal when it is thawed.
        drop(self.cgroups.of(guest.slot).thaw());
    }
}
