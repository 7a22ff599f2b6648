//! The rules of one sandbox, as they are written into its entry of the journal.

use std::{fmt, path::Path, sync::Arc};

use warren_core::{
    egress::{Egress, InvalidEgress},
    spec::Network,
};

use crate::net::NetError;

/// Rules with the mark of the connections that they allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rules.
    pub egress: Arc<Egress>,
    /// Never 0, which is the mark of connections that have none.
    pub mark: u32,
}

impl Policy {
    /// The policy of a network; none for one that is open.
    ///
    /// # Errors
    ///
    /// [`NetError::Host`] where the system has no randomness.
    pub fn of(network: &Network) -> Result<Option<Self>, NetError> {
        let egress = match network {
            Network::Open => return Ok(None),
            // Nothing but what an interface's own loopback is.
            Network::None => Arc::new(Egress::default()),
            Network::Rules(egress) => Arc::clone(egress),
        };
        let mut bytes = [0; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(NetError::host("choose a mark"))?;
        Ok(Some(Self { egress, mark: u32::from_ne_bytes(bytes).max(1) }))
    }

    /// Reads what [`Policy`] wrote by its `Display`.
    ///
    /// # Errors
    ///
    /// [`InvalidEgress`].
    pub fn read(text: &str) -> Result<Self, InvalidEgress> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mark = first.strip_prefix("mark ").and_then(|mark| mark.parse().ok());
        let unclear = || InvalidEgress::Line { line: first.to_owned() };
        let mark = mark.filter(|mark| *mark > 0).ok_or_else(unclear)?;
        Ok(Self { egress: Arc::new(rest.parse()?), mark })
    }

    /// Rules that allow nothing, for where the right ones cannot be read.
    #[must_use]
    pub fn closed() -> Self {
        Self { egress: Arc::default(), mark: 1 }
    }

    /// Writes it into an entry of the journal, or removes what is there.
    ///
    /// # Errors
    ///
    /// The failure of a file operation.
    pub fn store(policy: Option<&Self>, entry: &Path) -> std::io::Result<()> {
        let place = entry.join(FILE);
        match policy {
            Some(policy) => {
                let new = entry.join("network.new");
                std::fs::write(&new, policy.to_string())?;
                std::fs::rename(new, place)
            }
            None => match std::fs::remove_file(place) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// What an entry of the journal has; one that cannot be read allows nothing.
    #[must_use]
    pub fn load(entry: &Path) -> Option<Self> {
        let text = match std::fs::read_to_string(entry.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(%error, "the rules of a sandbox cannot be read: it reaches nothing");
                return Some(Self::closed());
            }
        };
        Some(Self::read(&text).unwrap_or_else(|error| {
            tracing::error!(%error, "the rules of a sandbox are no rules: it reaches nothing");
            Self::closed()
        }))
    }
}

/// The file in an entry of the journal.
const FILE: &str = "network";

impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "mark {}\n{}", self.mark, self.egress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_back_and_what_is_none_allows_nothing() {
        let egress: Egress = "allow a.example:443\notherwise deny\n".parse().unwrap();
        let network = Network::Rules(Arc::new(egress));
        let policy = Policy::of(&network).unwrap().unwrap();
        assert_eq!(Policy::read(&policy.to_string()), Ok(policy.clone()));
        assert_eq!(Policy::of(&Network::Open).unwrap(), None);

        let entry = tempfile::tempdir().unwrap();
        assert_eq!(Policy::load(entry.path()), None);
        Policy::store(Some(&policy), entry.path()).unwrap();
        assert_eq!(Policy::load(entry.path()), Some(policy));
        std::fs::write(entry.path().join(FILE), "mark 0\n").unwrap();
        assert_eq!(Policy::load(entry.path()), Some(Policy::closed()));
        Policy::store(None, entry.path()).unwrap();
        Policy::store(None, entry.path()).unwrap();
        assert_eq!(Policy::load(entry.path()), None);
    }
}
