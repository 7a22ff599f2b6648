//! What is kept of an authority, for whoever looks from outside of the server.

use std::{collections::BTreeMap, fs, path::Path};

use super::{AcmeError, ledger::Ledger, renew::short};
use crate::{clock::now, keep, parse::Validity};

/// A group of names that has a certificate, or should have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Until when its certificate is good, in seconds since 1970; none while there is none.
    pub until: Option<u64>,
    /// Whether that is soon, and a new one is overdue.
    pub ending: bool,
    /// Why the last attempt to have a new one failed, if it did.
    pub failure: Option<String>,
}

/// Looks at what is kept of the authority with this address, by the first name of each group.
///
/// # Errors
///
/// [`AcmeError::File`] for what cannot be read. Where nothing is kept, nothing is found.
pub fn examine(directory: &Path, url: &str) -> Result<BTreeMap<String, Found>, AcmeError> {
    let directory = directory.join(short(url));
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let entries = fs::read_dir(directory.join("certificates")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|it| it != "pem") {
            continue;
        }
        let pem = keep::read(&path).map_err(AcmeError::file("read", &path))?.unwrap_or_default();
        let validity = Validity::of_pem(&pem);
        let entry = found.entry(key).or_default();
        entry.until = validity.map(|it| it.until);
        entry.ending = validity.is_some_and(|it| it.is_ending(now()));
    }
    for (key, failure) in Ledger::open(&directory)?.failures() {
        found.entry(key.clone()).or_default().failure = Some(failure.reason.clone());
    }
    // What follows the name is for the file system.
    let name =
        |key: String| key.rsplit_once('-').map_or(key.as_str(), |(name, _)| name).replace('_', "*");
    Ok(found.into_iter().map(|(key, it)| (name(key), it)).collect())
}
