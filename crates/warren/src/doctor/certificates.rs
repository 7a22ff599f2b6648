//! Certificates that are ordered, or that a local authority signs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use warren_tls::{
    Validity,
    acme::{self, Found},
    local::Authority,
};

use super::{Check, Host, sentence};
use crate::{config::TlsSource, dirs::Dirs, serve::reload::is_public};

const AREA: &str = "certificates";
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let mut checks = match host.config.tls {
        TlsSource::Files => Vec::new(),
        TlsSource::Local => vec![local(host)],
        TlsSource::Acme => ordered(host),
    };
    checks.extend(host.config.tls_cert.as_deref().map(file));
    checks.extend(host.config.tls_key.as_deref().filter(|key| is_public(key)).map(|key| {
        let found = format!("everybody on this machine can read the key in {}", key.display());
        Check::weaker(AREA, "certificate file", found).mend(format!("chmod 600 {}", key.display()))
    }));
    checks
}

/// Where certificates are kept: not in a storage pool.
fn data(host: &Host<'_>) -> PathBuf {
    Dirs::locate(host.config, host.environment).map_or_else(|_none| host.data.clone(), |it| it.data)
}

/// The certificate of the files.
fn file(path: &Path) -> Check {
    const NAME: &str = "certificate file";
    const MEND: &str = "renew it; a server reads it by itself when the files have changed";
    let path_text = path.display();
    let pem = match fs::read(path) {
        Ok(pem) => pem,
        Err(error) => {
            let found = format!("{path_text} cannot be read: {error}");
            return Check::weaker(AREA, NAME, found).mend("see tls_cert in docs/configuration.md");
        }
    };
    let Some(validity) = Validity::of_pem(&pem) else {
        let found = format!("there is no certificate in {path_text}");
        return Check::weaker(AREA, NAME, found).mend("put one there, in PEM");
    };
    let now = warren_tls::now();
    let days = validity.until.saturating_sub(now) / DAY;
    if validity.until <= now {
        Check::weaker(AREA, NAME, format!("that in {path_text} has come to its end")).mend(MEND)
    } else if validity.is_ending(now) {
        let found = format!("that in {path_text} ends in {days} days");
        Check::weaker(AREA, NAME, found).mend(MEND)
    } else {
        Check::works(AREA, NAME, format!("that in {path_text} is good for {days} more days"))
    }
}

fn local(host: &Host<'_>) -> Check {
    const NAME: &str = "local authority";
    match Authority::open(&data(host)) {
        Ok(Some(authority)) if authority.until() > warren_tls::now() => {
            Check::works(AREA, NAME, authority.name())
        }
        Ok(Some(_)) => Check::weaker(AREA, NAME, "it has come to its end; nobody believes it")
            .mend("remove tls/ca.json in the data directory, then: warren ca init"),
        Ok(None) => Check::weaker(AREA, NAME, "there is none, so a server with `tls=local` fails")
            .mend("warren ca init"),
        Err(error) => Check::weaker(AREA, NAME, sentence(&error)).mend("warren ca init"),
    }
}

fn ordered(host: &Host<'_>) -> Vec<Check> {
    const NAME: &str = "certificate";
    let found = acme::examine(&data(host).join("tls/acme"), &host.config.acme_directory);
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let check = Check::weaker(AREA, NAME, sentence(&error));
            return vec![check.mend("put that file right, or remove it")];
        }
    };
    if found.is_empty() {
        return vec![Check::works(
            AREA,
            NAME,
            "none was ordered yet: a server does when it starts",
        )];
    }
    found.into_iter().map(|(name, found)| one(NAME, &name, found)).collect()
}

fn one(check: &'static str, name: &str, found: Found) -> Check {
    let left = found.until.map_or(0, |until| until.saturating_sub(warren_tls::now()) / DAY);
    let good = match left {
        0 => format!("{name} has none that is good"),
        days => format!("that of {name} is good for {days} more days"),
    };
    match found.failure {
        None if found.ending && left > 0 => {
            Check::weaker(AREA, check, good).mend("start the server: it should have renewed it")
        }
        None if left > 0 => Check::works(AREA, check, good),
        None => Check::weaker(AREA, check, good).mend("start the server: it orders one"),
        Some(failure) => {
            Check::weaker(AREA, check, format!("{good}; the last order failed: {failure}"))
                .mend("docs/tls.md says what each proof needs; the server tries again by itself")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn a_failed_renewal_is_weaker_also_while_the_old_certificate_is_good() {
        let until = Some(warren_tls::now() + 10 * DAY + 60);
        let found = Found { until, ..Found::default() };
        let check = one("certificate", "a.example", found);
        assert_eq!(check.outcome, Outcome::Works);
        assert_eq!(check.found, "that of a.example is good for 10 more days");
        let failure = Some("it rained".to_owned());
        let found = Found { until, failure, ending: false };
        let check = one("certificate", "a.example", found);
        assert_eq!(check.outcome, Outcome::Weaker);
        assert!(check.found.ends_with("the last order failed: it rained"), "{}", check.found);
        let found = Found { until, failure: None, ending: true };
        assert_eq!(one("certificate", "a.example", found).outcome, Outcome::Weaker);
        let check = one("certificate", "a.example", Found::default());
        assert_eq!(check.outcome, Outcome::Weaker);
    }
}
