//! Changes that do not fit into one transaction, and what is done when nobody knows how one ended.

use warren_sys::netlink::{Socket, nftables::Batch};

use super::{
    Policies, Policy,
    change::add_ways,
    place::{Force, Place},
    table,
};

impl Policies {
    /// Adds to a batch that makes the table that nothing of who has rules gets through;
    /// [`Policies::let_go_all`] must follow.
    pub(in crate::net) fn hold_back_all(&self, batch: &mut Batch<'_>) {
        self.add_services(batch);
        table::create_held_back(batch);
        for place in self.all() {
            let force = place.force();
            if force.packets().is_some() {
                table::hold_back(batch, place.slot());
            }
            add_ways(batch, &place, &force);
        }
    }

    /// Lets those go who are held back, each under its rules. One whose rules are refused stays
    /// held back, which is said.
    pub(in crate::net) fn let_go_all(&self, socket: &mut Socket) {
        for place in self.all() {
            let force = place.force();
            let Some(policy) = force.packets() else { continue };
            let mut batch = Batch::new(&self.table);
            table::let_go(&mut batch, place.slot());
            table::add(&mut batch, &place, &policy, force.given.needs(), self.group());
            table::add_answers(&mut batch, &place, &policy);
            match batch.apply(socket, "put the rules of a sandbox back") {
                Ok(()) => self.open_rest(socket, &place, &policy),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, guest.slot = place.slot(), "it reaches nothing now");
                }
            }
        }
    }

    /// Nobody knows whether a change was made: puts what was before in its place. Where it was not
    /// made, taking it back is refused, as it should be.
    pub(super) fn undo(&self, socket: &mut Socket, place: &Place, before: &Force, after: &Force) {
        let mut batch = Batch::new(&self.table);
        match (before.packets(), after.packets()) {
            (Some(was), _) => {
                table::add(&mut batch, place, &was, before.given.needs(), self.group());
            }
            (None, Some(_)) => table::remove(&mut batch, place),
            (None, None) => {}
        }
        table::send(&mut batch, place.slot(), after.gated(), before.gated());
        if let Err(error) = batch.apply(socket, "take back a change of rules") {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, guest.slot = place.slot(), "nothing was to be taken back");
        }
    }

    /// Opens what was answered and did not go with the rules.
    pub(super) fn open_rest(&self, socket: &mut Socket, place: &Place, policy: &Policy) {
        for part in table::rest_of_answers(place, policy).chunks(table::TOGETHER) {
            let mut batch = Batch::new(&self.table);
            table::open_again(&mut batch, part.iter().copied());
            if let Err(error) = batch.apply(socket, "open what was answered before") {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, guest.slot = place.slot(), "some names must be asked again");
                return;
            }
        }
    }

    /// Closes what was opened by answers.
    pub(super) fn close(&self, socket: &mut Socket, keys: &[table::Key]) {
        for part in keys.chunks(table::TOGETHER) {
            let mut batch = Batch::new(&self.table);
            table::close(&mut batch, part);
            // It closes by itself in time; where the table has gone, it has gone with it.
            if let Err(error) = batch.apply(socket, "close what was answered") {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "answers stay open for their life");
                return;
            }
        }
    }
}
