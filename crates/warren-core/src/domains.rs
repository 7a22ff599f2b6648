//! Names of somebody's own that lead to a port of a sandbox.
//!
//! A name is served when it was shown to be its owner's: by text that a record below it says, or
//! because it stands for the sandbox's own name. Until then several projects may claim it, and none
//! has it; afterwards one has.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    id::{DomainProofId, SandboxId},
};

/// Where the text is that shows whose a name is: this label below it.
pub const PROOF_LABEL: &str = "_warren";

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The name, in small letters and without a dot at its end.
    pub name: String,
    /// Whose it is, or who says so.
    pub owner: Owner,
    /// Where it leads.
    pub sandbox: SandboxId,
    /// To which port there.
    pub port: u16,
    /// Whether visitors need no token.
    pub public: bool,
    /// What a record is to say to show whose the name is.
    pub proof: DomainProofId,
    /// Whether that was seen.
    pub verified: bool,
    /// When it was added.
    pub created_at: Timestamp,
}

/// What the name service says about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The text of [`PROOF_LABEL`] below it, record by record.
    pub texts: Vec<String>,
    /// The name that it stands for; itself where it stands for none.
    pub target: String,
}

/// Who asks the name service.
#[async_trait]
pub trait NameService: Send + Sync + fmt::Debug {
    /// Asks about a name; the error is a sentence for people.
    async fn ask(&self, name: &str) -> Result<Said, String>;
}

/// All names.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    table: Mutex<Table>,
    names: Mutex<Option<Arc<dyn NameService>>>,
    /// Counts changes of what is served.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<(Owner, String), Arc<Domain>>,
    /// Those that were verified.
    served: HashMap<String, Arc<Domain>>,
}

impl Domains {
    /// Adds a name, or puts it in the place of its earlier form; its owner has at most `most`.
    pub(crate) fn put(&self, domain: Domain, most: usize) -> Result<Arc<Domain>, SandboxError> {
        let mut table = self.lock();
        let taken = table.served.get(&domain.name).is_some_and(|it| it.owner != domain.owner);
        if domain.verified && taken {
            return Err(SandboxError::Taken { what: "domain", name: domain.name });
        }
        let key = (domain.owner.clone(), domain.name.clone());
        let have = table.all.keys().filter(|(owner, _)| *owner == domain.owner).count();
        if !table.all.contains_key(&key) && have >= most {
            let limit = most as u64;
            return Err(SandboxError::Limit { whose: "project's", what: "domains", limit });
        }
        let domain = Arc::new(domain);
        if domain.verified {
            table.served.insert(domain.name.clone(), Arc::clone(&domain));
        } else if !taken {
            // Its owner's own, if anybody's.
            table.served.remove(&domain.name);
        }
        table.all.insert(key, Arc::clone(&domain));
        drop(table);
        self.changes.send_modify(|count| *count += 1);
        Ok(domain)
    }

    /// Forgets a name.
    pub(crate) fn remove(&self, owner: &Owner, name: &str) {
        let mut table = self.lock();
        table.all.remove(&(owner.clone(), name.to_owned()));
        if table.served.get(name).is_some_and(|it| it.owner == *owner) {
            table.served.remove(name);
        }
        drop(table);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Counts changes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a name leads everybody to this port.
    pub(crate) fn opens(&self, sandbox: SandboxId, port: u16) -> bool {
        let table = self.lock();
        table.served.values().any(|it| it.public && it.sandbox == sandbox && it.port == port)
    }

    /// The owner's entry for a name.
    pub(crate) fn find(&self, owner: &Owner, name: &str) -> Result<Arc<Domain>, SandboxError> {
        let found = self.lock().all.get(&(owner.clone(), name.to_owned())).cloned();
        found.ok_or_else(|| SandboxError::NoSuch { what: "domain", name: name.to_owned() })
    }

    /// The owner's entries, by name.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<Arc<Domain>> {
        let table = self.lock();
        let mut found: Vec<_> =
            table.all.values().filter(|it| it.owner == *owner).cloned().collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// What is served under a name.
    pub(crate) fn served(&self, name: &str) -> Option<Arc<Domain>> {
        self.lock().served.get(name).cloned()
    }

    /// All that is served, by name.
    pub(crate) fn all_served(&self) -> Vec<Arc<Domain>> {
        let mut served: Vec<_> = self.lock().served.values().cloned().collect();
        served.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        served
    }

    pub(crate) fn set_names(&self, names: Arc<dyn NameService>) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
    }

    pub(crate) fn names(&self) -> Option<Arc<dyn NameService>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as it is kept.
///
/// # Errors
///
/// [`SandboxError::Invalid`] for what is no name that others could have, and for names of the
/// server's own.
pub(crate) fn check(name: &str, reserved: &[String]) -> Result<String, SandboxError> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() > 200 || !name.contains('.') || !name.split('.').all(label) || numeric(last) {
        let text = "expected a name such as `app.example.com`, in letters, digits and hyphens";
        return Err(SandboxError::invalid("name", text));
    }
    let own = |domain: &String| {
        name == *domain || name.strip_suffix(domain.as_str()).is_some_and(|it| it.ends_with('.'))
    };
    if reserved.iter().any(own) || own(&"localhost".to_owned()) {
        return Err(SandboxError::invalid("name", "this is a name of the server's own"));
    }
    Ok(name)
}

/// Whether what was said shows that a name is its owner's.
pub(crate) fn is_shown(domain: &Domain, said: &Said, own: &[String]) -> bool {
    let by_text = said.texts.iter().any(|text| text == domain.proof.as_str());
    let label = own.iter().find_map(|it| said.target.strip_suffix(it.as_str())?.strip_suffix('.'));
    let by_target = label
        .and_then(|label| label.split_once('-'))
        .is_some_and(|(port, id)| port.parse() == Ok(domain.port) && id == domain.sandbox.as_str());
    by_text || by_target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(owner: &str, verified: bool) -> Domain {
        Domain {
            name: "app.example.com".to_owned(),
            owner: Owner::new(owner),
            sandbox: SandboxId::mint(),
            port: 3000,
            public: false,
            proof: DomainProofId::mint(),
            verified,
            created_at: Timestamp::default(),
        }
    }

    #[test]
    fn several_may_claim_a_name_and_one_has_it() {
        let domains = Domains::default();
        domains.put(domain("a", false), 9).unwrap();
        domains.put(domain("b", false), 9).unwrap();
        assert_eq!(domains.served("app.example.com"), None);
        domains.put(domain("a", true), 9).unwrap();
        let taken = domains.put(domain("b", true), 9).unwrap_err();
        assert!(matches!(taken, SandboxError::Taken { .. }), "{taken}");
        assert_eq!(domains.served("app.example.com").unwrap().owner, Owner::new("a"));
        domains.remove(&Owner::new("b"), "app.example.com");
        assert!(domains.served("app.example.com").is_some(), "another's claim is not the name");
        let served = domains.served("app.example.com").unwrap();
        assert!(!domains.opens(served.sandbox, 3000), "it is not public");
        domains.put(Domain { public: true, ..(*served).clone() }, 9).unwrap();
        assert!(domains.opens(served.sandbox, 3000) && !domains.opens(served.sandbox, 80));
        // A second add that had not seen the proof yet.
        domains.put(Domain { verified: false, ..(*served).clone() }, 9).unwrap();
        assert_eq!(domains.served("app.example.com"), None, "what is served is what is listed");
        domains.put((*served).clone(), 9).unwrap();
        domains.remove(&Owner::new("a"), "app.example.com");
        assert!(domains.all_served().is_empty());
    }

    #[test]
    fn a_project_has_so_many() {
        let domains = Domains::default();
        domains.put(domain("a", false), 1).unwrap();
        domains.put(domain("a", true), 1).unwrap();
        let other = Domain { name: "b.example.com".to_owned(), ..domain("a", false) };
        assert!(matches!(domains.put(other, 1).unwrap_err(), SandboxError::Limit { .. }));
    }

    #[test]
    fn a_name_is_one_that_others_can_have() {
        let own = ["box.example".to_owned()];
        assert_eq!(check("App.Example.com.", &own).unwrap(), "app.example.com");
        assert_eq!(check("notbox.example", &own).unwrap(), "notbox.example");
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "app",
            "127.0.0.1",
            "*.example.com",
            "a..example",
            "-a.example",
            "box.example",
            "3000-sb-1.box.example",
            "x.localhost",
            "a.example/x",
            "a.example:80",
            &long,
        ] {
            check(bad, &own).unwrap_err();
        }
    }

    #[test]
    fn a_name_is_shown_by_its_text_or_by_what_it_stands_for() {
        let (domain, own) = (domain("a", false), ["box.example".to_owned()]);
        let text = |text: &str| Said { texts: vec![text.to_owned()], target: domain.name.clone() };
        let target = |target: String| Said { texts: Vec::new(), target };
        assert!(is_shown(&domain, &text(domain.proof.as_str()), &own));
        assert!(!is_shown(&domain, &text(DomainProofId::mint().as_str()), &own));
        let id = domain.sandbox;
        assert!(is_shown(&domain, &target(format!("3000-{id}.box.example")), &own));
        let other = SandboxId::mint();
        for wrong in [
            format!("3000-{id}.other.example"),
            format!("3001-{id}.box.example"),
            format!("3000-{other}.box.example"),
            format!("x.3000-{id}.box.example"),
            "box.example".to_owned(),
        ] {
            assert!(!is_shown(&domain, &target(wrong.clone()), &own), "{wrong}");
        }
    }
}
