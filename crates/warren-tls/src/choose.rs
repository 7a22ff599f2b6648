//! Which certificate a client is shown, by the name it asks for.
//!
//! A challenge of ACME first, then certificates of an authority, exact names before `*.`, then the
//! local authority, which signs for the names it may.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::local::Authority;

/// The protocol of an authority that looks for the answer to its challenge.
///
/// # Source
///
/// RFC 8737, section 4.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// All certificates but those of files. A clone is another handle to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: RwLock<Table>,
    local: Option<Authority>,
}

#[derive(Debug, Default)]
struct Table {
    /// By name, such as `a.example` and `*.a.example`.
    names: HashMap<String, Arc<CertifiedKey>>,
    /// What a client gets that asks for no name.
    usual: Option<Arc<CertifiedKey>>,
    /// Answers to challenges, by name.
    challenges: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Those of the local authority, and others that are added.
    #[must_use]
    pub fn with_local(local: Authority) -> Self {
        Self(Arc::new(Inner { table: RwLock::default(), local: Some(local) }))
    }

    /// Shows this certificate to whoever asks for one of these names; the first of all is also
    /// what a client gets that asks for none.
    pub(crate) fn insert(&self, names: &[String], certified: &Arc<CertifiedKey>, usual: bool) {
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            table.names.insert(name.clone(), Arc::clone(certified));
        }
        if usual || table.usual.is_none() {
            table.usual = Some(Arc::clone(certified));
        }
    }

    /// Forgets what was shown for these names.
    pub(crate) fn remove(&self, names: &[String]) {
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            table.names.remove(name);
        }
    }

    /// Answers an authority's challenge for this name.
    pub(crate) fn challenge(&self, name: &str, answer: CertifiedKey) {
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        table.challenges.insert(name.to_owned(), Arc::new(answer));
    }

    /// Answers it no more.
    pub(crate) fn end_challenge(&self, name: &str) {
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        table.challenges.remove(name);
    }

    /// The certificate for this name, in small letters; for no name the usual one.
    #[must_use]
    pub fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.table.read().unwrap_or_else(PoisonError::into_inner);
        let found = match name {
            None => table.usual.clone(),
            Some(name) => table
                .names
                .get(name)
                .or_else(|| {
                    let (_label, above) = name.split_once('.')?;
                    table.names.get(&format!("*.{above}"))
                })
                .cloned(),
        };
        drop(table);
        found.or_else(|| self.0.local.as_ref()?.certificate(name))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let mut protocols = hello.alpn().into_iter().flatten();
        if let (Some(ACME_TLS), None) = (protocols.next(), protocols.next()) {
            let table = self.0.table.read().unwrap_or_else(PoisonError::into_inner);
            return table.challenges.get(&name?).cloned();
        }
        self.of(name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls;

    use super::*;
    use crate::parse::certified;

    fn made(name: &str) -> Arc<CertifiedKey> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let pem = format!("{}{}", made.key_pair.serialize_pem(), made.cert.pem());
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(certified(pem.as_bytes(), &[], &provider).unwrap().0)
    }

    #[test]
    fn an_exact_name_goes_before_a_star_which_stands_for_one_label() {
        let certificates = Certificates::default();
        let (exact, star) = (made("www.a.example"), made("*.a.example"));
        certificates.insert(&["*.a.example".to_owned()], &star, false);
        certificates.insert(&["www.a.example".to_owned()], &exact, false);
        let found = |name: &str| certificates.of(Some(name));
        let is = |name: &str, expected: &Arc<CertifiedKey>| {
            assert!(Arc::ptr_eq(&found(name).unwrap(), expected), "{name}");
        };
        is("www.a.example", &exact);
        is("other.a.example", &star);
        for nobodys in ["a.example", "x.y.a.example", "b.example"] {
            assert!(found(nobodys).is_none(), "{nobodys}");
        }
        assert!(Arc::ptr_eq(&certificates.of(None).unwrap(), &star), "the first is the usual one");
        certificates.remove(&["www.a.example".to_owned()]);
        is("www.a.example", &star);
    }
}
