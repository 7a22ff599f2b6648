//! Which addresses were answered for which name, and for how long they are good.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// How many names are remembered for one sandbox.
const NAMES: usize = 512;
/// How many addresses of one name.
const ADDRESSES: usize = 64;

/// The names that one sandbox asked for.
#[derive(Debug, Default)]
pub(in crate::net) struct Answers {
    names: HashMap<String, Vec<(Ipv4Addr, Instant)>>,
}

impl Answers {
    /// Remembers an answer; gives the addresses that it had already and that are good still.
    pub(super) fn remember(
        &mut self,
        name: &str,
        addresses: &[Ipv4Addr],
        until: Instant,
        now: Instant,
    ) -> Vec<Ipv4Addr> {
        if self.names.len() >= NAMES && !self.names.contains_key(name) {
            self.drop_oldest();
        }
        let known = self.names.entry(name.to_owned()).or_default();
        let mut renewed = Vec::new();
        for address in addresses {
            match known.iter_mut().find(|(it, _)| it == address) {
                Some((_, good)) => {
                    if *good > now {
                        renewed.push(*address);
                    }
                    *good = until.max(*good);
                }
                None => known.push((*address, until)),
            }
        }
        if known.len() > ADDRESSES {
            known.sort_by_key(|(_, good)| std::cmp::Reverse(*good));
            known.truncate(ADDRESSES);
        }
        renewed
    }

    /// The addresses of a name that are good.
    pub(super) fn alive(&self, name: &str, now: Instant) -> Vec<Ipv4Addr> {
        let known = self.names.get(name).into_iter().flatten();
        known.filter(|(_, good)| *good > now).map(|(address, _)| *address).collect()
    }

    /// Whether an address is good for a name; with `ever`, whether it was once.
    pub(in crate::net) fn has(
        &self,
        name: &str,
        address: Ipv4Addr,
        ever: bool,
        now: Instant,
    ) -> bool {
        let known = self.names.get(name).into_iter().flatten();
        known.into_iter().any(|(it, good)| *it == address && (ever || *good > now))
    }

    /// The names that an address was answered for, those first that are good the longest.
    pub(super) fn names_of(&self, address: Ipv4Addr) -> Vec<String> {
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
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (&str, Ipv4Addr, Duration)> {
        self.names.iter().flat_map(move |(name, known)| {
            known.iter().map(move |(address, good)| {
                (name.as_str(), *address, good.saturating_duration_since(now))
            })
        })
    }

    fn drop_oldest(&mut self) {
        let age = |known: &Vec<(Ipv4Addr, Instant)>| known.iter().map(|(_, good)| *good).max();
        let oldest = self.names.iter().min_by_key(|(_, known)| age(known));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.names.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn an_answer_is_good_for_its_life_and_known_beyond() {
        let (now, mut answers) = (Instant::now(), Answers::default());
        let life = Duration::from_secs(30);
        assert!(answers.remember("a.example", &[ONE], now + life, now).is_empty());
        let known = answers.remember("a.example", &[ONE, TWO], now + 2 * life, now);
        assert_eq!(known, [ONE]);
        assert_eq!(answers.alive("a.example", now + life).len(), 2);
        let later = now + 3 * life;
        assert!(answers.alive("a.example", later).is_empty());
        assert!(answers.has("a.example", ONE, true, later));
        assert!(!answers.has("a.example", ONE, false, later));
        assert!(!answers.has("b.example", ONE, true, now));
        answers.remember("b.example", &[ONE], now + 9 * life, now);
        assert_eq!(answers.names_of(ONE), ["b.example", "a.example"]);
    }

    #[test]
    fn a_guest_that_asks_for_ever_fills_nothing() {
        let (now, mut answers) = (Instant::now(), Answers::default());
        for number in 0..2000_u32 {
            let address = Ipv4Addr::from(number);
            let until = now + Duration::from_secs(u64::from(number));
            answers.remember(&format!("n{number}"), &[address], until, now);
            answers.remember("many", &[address], until, now);
        }
        assert!(answers.names.len() <= NAMES);
        assert!(answers.names.values().all(|known| known.len() <= ADDRESSES));
        assert!(answers.names.contains_key("n1999"), "the newest stay");
    }
}
