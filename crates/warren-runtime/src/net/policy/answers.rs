//! Which addresses were answered for which name, and for how long they are good.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How many names are remembered for one sandbox.
const NAMES: usize = 512;
/// How many addresses of one name.
pub(super) const ADDRESSES: usize = 64;

/// The names that one sandbox asked for.
#[derive(Debug, Default)]
pub(in crate::net) struct Answers {
    names: HashMap<String, Vec<(IpAddr, Instant)>>,
}

impl Answers {
    /// Remembers an answer; gives the names and addresses that are not remembered any more.
    pub(super) fn remember(
        &mut self,
        name: &str,
        addresses: &[IpAddr],
        until: Instant,
    ) -> Vec<(String, IpAddr)> {
        let mut dropped = Vec::new();
        if self.names.len() >= NAMES && !self.names.contains_key(name) {
            dropped = self.drop_oldest();
        }
        let known = self.names.entry(name.to_owned()).or_default();
        for address in addresses {
            match known.iter_mut().find(|(it, _)| it == address) {
                Some((_, good)) => *good = until.max(*good),
                None => known.push((*address, until)),
            }
        }
        if known.len() > ADDRESSES {
            known.sort_by_key(|(_, good)| std::cmp::Reverse(*good));
            let last = known.drain(ADDRESSES..);
            dropped.extend(last.map(|(address, _)| (name.to_owned(), address)));
        }
        dropped
    }

    /// Whether all these addresses are good for a name at least until then.
    pub(super) fn last_until(&self, name: &str, addresses: &[IpAddr], until: Instant) -> bool {
        let Some(known) = self.names.get(name) else { return false };
        addresses.iter().all(|it| known.iter().any(|(known, good)| known == it && *good >= until))
    }

    /// The addresses of a name that are good.
    pub(super) fn alive(&self, name: &str, now: Instant) -> Vec<IpAddr> {
        let known = self.names.get(name).into_iter().flatten();
        known.filter(|(_, good)| *good > now).map(|(address, _)| *address).collect()
    }

    /// Whether an address is good for a name; with `ever`, whether it was once.
    pub(in crate::net) fn has(
        &self,
        name: &str,
        address: IpAddr,
        ever: bool,
        now: Instant,
    ) -> bool {
        let known = self.names.get(name).into_iter().flatten();
        known.into_iter().any(|(it, good)| *it == address && (ever || *good > now))
    }

    /// The names that an address was answered for, those first that are good the longest.
    pub(in crate::net) fn names_of(&self, address: IpAddr) -> Vec<String> {
        let mut found: Vec<_> = self
            .names
            .iter()
            .filter_map(|(name, known)| {
                let (_, good) = known.iter().find(|(it, _)| *it == address)?;
                Some((std::cmp::Reverse(*good), name.clone()))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Every name with its addresses, and for how long each is good.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (&str, IpAddr, Duration)> {
        self.names.iter().flat_map(move |(name, known)| {
            known.iter().map(move |(address, good)| {
                (name.as_str(), *address, good.saturating_duration_since(now))
            })
        })
    }

    fn drop_oldest(&mut self) -> Vec<(String, IpAddr)> {
        let age = |known: &Vec<(IpAddr, Instant)>| known.iter().map(|(_, good)| *good).max();
        let oldest = self.names.iter().min_by_key(|(_, known)| age(known));
        let oldest = oldest.map(|(name, _)| name.clone());
        let removed = oldest.and_then(|name| self.names.remove_entry(&name));
        removed
            .into_iter()
            .flat_map(|(name, known)| {
                known.into_iter().map(move |(address, _)| (name.clone(), address))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

    #[test]
    fn an_answer_is_good_for_its_life_and_known_beyond() {
        let (now, mut answers) = (Instant::now(), Answers::default());
        let life = Duration::from_secs(30);
        assert!(!answers.last_until("a.example", &[ONE], now));
        answers.remember("a.example", &[ONE], now + life);
        assert!(answers.last_until("a.example", &[ONE], now + life));
        assert!(!answers.last_until("a.example", &[ONE, TWO], now + life));
        assert!(!answers.last_until("a.example", &[ONE], now + 2 * life));
        answers.remember("a.example", &[ONE, TWO], now + 2 * life);
        assert!(answers.last_until("a.example", &[TWO, ONE], now + 2 * life));
        assert_eq!(answers.alive("a.example", now + life).len(), 2);
        let later = now + 3 * life;
        assert!(answers.alive("a.example", later).is_empty());
        assert!(answers.has("a.example", ONE, true, later));
        assert!(!answers.has("a.example", ONE, false, later));
        assert!(!answers.has("b.example", ONE, true, now));
        answers.remember("b.example", &[ONE], now + 9 * life);
        assert_eq!(answers.names_of(ONE), ["b.example", "a.example"]);
    }

    #[test]
    fn a_guest_that_asks_for_ever_fills_nothing() {
        let (now, mut answers) = (Instant::now(), Answers::default());
        let mut dropped = 0;
        for number in 0..2000_u32 {
            let address = Ipv4Addr::from(number).into();
            let until = now + Duration::from_secs(u64::from(number));
            dropped += answers.remember(&format!("n{number}"), &[address], until).len();
            dropped += answers.remember("many", &[address], until).len();
        }
        assert_eq!(dropped + answers.all(now).count(), 4000, "what is dropped is given back");
        assert!(answers.names.len() <= NAMES);
        assert!(answers.names.values().all(|known| known.len() <= ADDRESSES));
        assert!(answers.names.contains_key("n1999"), "the newest stay");
    }
}
