//! What is known about the sandbox in one slot.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use warren_core::{
    egress::{Action, Attempt, Egress, Mode, Protocol, Verdict},
    runtime::{Denial, Destination, Reached},
};

use super::{Policy, answers::Answers};
use crate::net::credentials::{Given, Needs};

/// How many destinations are noted for learning.
const DESTINATIONS: usize = 4096;
/// How many denials are told at once, and in each second.
const TOLD: u32 = 20;
const TOLD_EACH_SECOND: u32 = 10;

/// What is known about the sandbox in one slot.
#[derive(Debug)]
pub(in crate::net) struct Place {
    slot: u32,
    force: RwLock<Force>,
    answers: Mutex<Answers>,
    reached: Mutex<BTreeMap<Destination, u64>>,
    telling: Mutex<Telling>,
    changes: watch::Sender<u64>,
    passed: AtomicU64,
}

/// What is in force for a sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Force {
    /// The rules; none for one that is open.
    pub(super) policy: Option<Policy>,
    /// What its requests are given.
    pub(super) given: Given,
    /// Whether it reaches the broker of git.
    pub(super) brokered: bool,
}

impl Force {
    /// Which TCP goes through the gate, by the rules or for what requests are given.
    pub(super) fn gated(&self) -> Needs {
        let Needs { web, all } = self.given.needs();
        Needs { web: web || self.policy.as_ref().is_some_and(is_gated), all }
    }

    /// The rules that packets are held to. Of a sandbox that is open and whose requests are given
    /// something, they close the ways around the gate.
    pub(super) fn packets(&self) -> Option<Policy> {
        let open = || Egress { otherwise: Action::Allow, ..Egress::default() };
        let open = || Policy { egress: Arc::new(open()), mark: OPEN_MARK };
        self.policy.clone().or_else(|| self.given.needs().any().then(open))
    }
}

/// The mark of connections of a sandbox that is open.
const OPEN_MARK: u32 = 2;

/// Whether connections to 80 and 443 go through the gate for the rules.
fn is_gated(policy: &Policy) -> bool {
    policy.egress.mode == Mode::Enforce && policy.egress.has_domains()
}

/// How many denials may be told now.
#[derive(Debug)]
struct Telling {
    left: u32,
    since: Instant,
    untold: u64,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Answering {
    /// It is answered.
    Yes,
    /// It is answered, and is told as something that the rules would deny.
    Told(Verdict),
    /// It is not.
    No(Verdict),
}

impl Place {
    pub(super) fn new(slot: u32) -> Self {
        let telling = Telling { left: TOLD, since: Instant::now(), untold: 0 };
        Self {
            slot,
            force: RwLock::default(),
            answers: Mutex::default(),
            reached: Mutex::default(),
            telling: Mutex::new(telling),
            changes: watch::Sender::new(0),
            passed: AtomicU64::new(0),
        }
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// The rules in force; none for one that is open.
    pub(in crate::net) fn policy(&self) -> Option<Policy> {
        self.force.read().unwrap_or_else(PoisonError::into_inner).policy.clone()
    }

    /// What requests are given.
    pub(in crate::net) fn given(&self) -> Given {
        self.force.read().unwrap_or_else(PoisonError::into_inner).given.clone()
    }

    pub(super) fn force(&self) -> Force {
        self.force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, force: Force) {
        *self.force.write().unwrap_or_else(PoisonError::into_inner) = force;
    }

    /// Says that the rules are others now.
    pub(super) fn tell(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Nobody is here any more: what is under way may not be.
    pub(super) fn close(&self) {
        self.set(Force { policy: Some(Policy::closed()), ..Force::default() });
        self.tell();
    }

    /// Sees every change of the rules.
    pub(in crate::net) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(in crate::net) fn answers(&self) -> MutexGuard<'_, Answers> {
        lock(&self.answers)
    }

    /// Counts a connection that went through the gate.
    pub(in crate::net) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections went through the gate.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Whether names decide: then nothing that could hide one is answered.
    pub(in crate::net) fn names_decide(&self) -> bool {
        self.force.read().unwrap_or_else(PoisonError::into_inner).gated().web
    }

    /// Whether names are looked at, would be, or are learned: nothing is said that could hide them.
    pub(in crate::net) fn names_count(&self) -> bool {
        let learned = |it: &Policy| it.egress.mode == Mode::Learn || it.egress.has_domains();
        self.names_decide() || self.policy().is_some_and(|it| learned(&it))
    }

    /// Whether a name is looked up.
    pub(in crate::net) fn question(&self, name: &str) -> Answering {
        let Some(Policy { egress, .. }) = self.policy() else { return Answering::Yes };
        let verdict = egress.may_ask(name);
        let allowed = verdict.allowed && !egress.is_hiding(name, verdict);
        match (allowed, egress.mode) {
            (true, _) | (false, Mode::Learn) => Answering::Yes,
            (false, Mode::DryRun) => Answering::Told(verdict),
            (false, Mode::Enforce) => Answering::No(verdict),
        }
    }

    /// Notes a packet that was logged. Gives the denial that it stands for, if any.
    pub(in crate::net) fn seen(&self, mut to: Destination, was_denied: bool) -> Option<Denial> {
        let Policy { egress, .. } = self.policy()?;
        let names = to.address.map(|it| self.answers().names_of(it)).unwrap_or_default();
        let decide = |name: Option<&str>| {
            let plain = to.attempt();
            egress.enforced(&Attempt { name, proven: name.is_some(), ..plain })
        };
        // Of several names that it may be, one by which it became what it did.
        let by_name = names.iter().find(|name| decide(Some(name)).allowed != was_denied);
        let name = by_name.or_else(|| names.first()).cloned();
        let verdict = decide(name.as_deref());
        to.name = name;
        if was_denied {
            // What the rules allow is denied where it is a way around them.
            let rule = verdict.rule.filter(|_| !verdict.allowed);
            return Some(Denial { to, rule, why: None, enforced: true, untold: 0 });
        }
        self.note(&to);
        let denied = egress.mode == Mode::DryRun && !verdict.allowed;
        denied.then_some(Denial { to, rule: verdict.rule, why: None, enforced: false, untold: 0 })
    }

    fn note(&self, to: &Destination) {
        let mut reached = lock(&self.reached);
        if reached.len() < DESTINATIONS || reached.contains_key(to) {
            *reached.entry(to.clone()).or_default() += 1;
        }
    }

    pub(super) fn reached(&self) -> Vec<Reached> {
        let reached = lock(&self.reached);
        reached.iter().map(|(to, count)| Reached { to: to.clone(), count: *count }).collect()
    }

    /// The denial with how many went before it untold; none where it is one of them.
    pub(super) fn to_be_told(&self, denial: Denial) -> Option<Denial> {
        let mut telling = lock(&self.telling);
        let seconds = u32::try_from(telling.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            telling.left = telling.left.saturating_add(seconds.saturating_mul(TOLD_EACH_SECOND));
            telling.left = telling.left.min(TOLD);
            telling.since += Duration::from_secs(u64::from(seconds));
        }
        if telling.left == 0 {
            telling.untold += 1;
            return None;
        }
        telling.left -= 1;
        Some(Denial { untold: std::mem::take(&mut telling.untold), ..denial })
    }

    /// The denial of a question.
    pub(in crate::net) fn denied_question(name: &str, verdict: Verdict, enforced: bool) -> Denial {
        let name = Some(name.to_owned());
        let to = Destination { name, address: None, protocol: Protocol::Any, port: None };
        Denial { to, rule: verdict.rule, why: None, enforced, untold: 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn place(text: &str) -> Place {
        let place = Place::new(0);
        let policy = Some(Policy { egress: Arc::new(text.parse().unwrap()), mark: 1 });
        place.set(Force { policy, ..Force::default() });
        place
    }

    fn tcp(address: [u8; 4], port: u16) -> Destination {
        let address = Some(Ipv4Addr::from(address).into());
        Destination { name: None, address, protocol: Protocol::Tcp, port: Some(port) }
    }

    #[test]
    fn other_resolvers_have_no_names_unless_a_rule_names_them() {
        let all = place("allow *\nallow a.example\n");
        assert!(matches!(all.question("dns.google"), Answering::No(_)));
        assert_eq!(all.question("b.example"), Answering::Yes);
        assert_eq!(place("allow dns.google\n").question("dns.google"), Answering::Yes);
        assert_eq!(place("allow *\n").question("dns.google"), Answering::Yes, "no names decide");
        assert!(matches!(place("mode dry_run\n").question("a.example"), Answering::Told(_)));
        assert_eq!(place("mode learn\n").question("a.example"), Answering::Yes);
        assert_eq!(Place::new(1).question("a.example"), Answering::Yes);
    }

    #[test]
    fn names_decide_where_requests_are_given_something() {
        let place = Place::new(0);
        assert!(!place.names_decide());
        let given = Given::awaited(Needs { web: true, all: false });
        place.set(Force { given, ..Force::default() });
        assert!(place.names_decide());
        assert_eq!(place.policy(), None, "it is open");
        assert!(place.force().packets().is_some(), "and the ways around the gate are closed");
        place.close();
        assert!(!place.given().is_awaited());
    }

    #[test]
    fn what_is_seen_is_noted_by_name() {
        let place = place("mode dry_run\nallow b.example:443\n");
        let now = Instant::now();
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        for name in ["b.example", "a.example"] {
            place.answers().remember(name, &[address], now + Duration::from_secs(60));
        }
        assert_eq!(
            place.seen(tcp([192, 0, 2, 1], 443), false),
            None,
            "one of its names is allowed"
        );
        let denial = place.seen(tcp([192, 0, 2, 1], 80), false).unwrap();
        assert!(!denial.enforced);
        assert_eq!(place.reached().len(), 2);
        assert_eq!(place.reached()[1].to.name.as_deref(), Some("b.example"));
    }

    #[test]
    fn denials_are_told_now_and_then_and_counted() {
        let place = place("otherwise deny\n");
        let denial = place.seen(tcp([192, 0, 2, 1], 80), true).unwrap();
        assert!(denial.enforced);
        let told = (0..100).filter(|_| place.to_be_told(denial.clone()).is_some()).count();
        assert!((20..=40).contains(&told), "{told}");
        lock(&place.telling).left = 1;
        assert_eq!(place.to_be_told(denial).unwrap().untold, 100 - told as u64);
    }
}
