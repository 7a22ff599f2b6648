//! What requests of a sandbox are given, as the gate takes it, and who signs for it.
//!
//! The authority of a sandbox is made when it is first given credentials, and kept in its entry of
//! the journal, for root alone: what the sandbox has been told to trust must be the same after the
//! server was started again. It goes with the entry, so a sandbox that is stopped and started has
//! a new one. Values of secrets are never there.
//!
//! The entry also says which connections have to go through the gate. The next server has them go
//! there from its beginning, and refuses them until it is told what they are given: no connection
//! goes around a proxy meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Method};
use warren_core::{
    credentials::{Granted, GrantedRule, ProxyKind},
    egress::Protocol,
    id::SandboxId,
    secrets::SecretValue,
};
use warren_egress::{
    Authority, Credentials, HostRule, Proxy,
    authority::AuthorityError,
    credentials::{HostPattern, Placeholder, Places, Secret},
    mask::Masks,
};
use zeroize::Zeroizing;

/// The file in an entry of the journal.
const FILE: &str = "authority.pem";
/// The one that says what has to go through the gate.
const NEEDS: &str = "gated";

/// Why a sandbox cannot be given credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file of its authority cannot be read or written.
    #[error("could not keep the authority of the sandbox")]
    Keep(#[source] io::Error),
    /// The authority cannot be made, or what is there is none.
    #[error("could not have an authority for the sandbox")]
    Authority(#[source] AuthorityError),
}

/// Which connections of a sandbox have to go through the gate for what its requests are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// TCP to 80 and 443: some hosts have rules.
    pub web: bool,
    /// All TCP, and nothing else may leave: there is a proxy.
    pub all: bool,
}

impl Needs {
    /// Whether there are any.
    #[must_use]
    pub fn any(self) -> bool {
        self.web || self.all
    }

    /// Whether packets of this kind are refused, whatever the rules say.
    #[must_use]
    pub fn close(self, protocol: Protocol, port: Option<u16>) -> bool {
        let http3 = protocol == Protocol::Udp && port == Some(443);
        self.all && protocol != Protocol::Tcp || self.web && http3
    }

    /// Writes them into an entry of the journal, or removes what is there.
    ///
    /// # Errors
    ///
    /// The failure of a file operation.
    pub fn store(self, entry: &Path) -> io::Result<()> {
        let place = entry.join(NEEDS);
        if self.any() {
            let new = entry.join(format!("{NEEDS}.new"));
            fs::write(&new, if self.all { "all\n" } else { "web\n" })?;
            return fs::rename(new, place);
        }
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What an entry of the journal has; where that cannot be read, everything.
    #[must_use]
    pub fn load(entry: &Path) -> Self {
        let all = Self { web: true, all: true };
        match fs::read_to_string(entry.join(NEEDS)) {
            Ok(text) if text == "web\n" => Self { web: true, all: false },
            Ok(_) => all,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::error!(%error, "what a sandbox is given cannot be read: it has no web");
                all
            }
        }
    }
}

/// What the gate is told about one sandbox.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// For which hosts what is done; none where nothing is.
    pub credentials: Option<Arc<Credentials>>,
    /// The proxy that all connections go through.
    pub proxy: Option<Arc<Proxy>>,
    /// What an earlier server knew it by, and this one does not yet.
    awaited: Option<Needs>,
}

impl Given {
    /// What is not known yet, and is known to have these needs.
    #[must_use]
    pub fn awaited(needs: Needs) -> Self {
        Self { awaited: Some(needs).filter(|it| it.any()), ..Self::default() }
    }

    /// Whether nobody has said yet what it is.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// What has to go through the gate.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let now = Needs { web: self.credentials.is_some(), all: self.proxy.is_some() };
        self.awaited.unwrap_or(now)
    }

    /// Puts together what the gate is told. The authority is that of the entry, which is made where
    /// rules need one.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`].
    pub fn new(granted: &Granted, id: &SandboxId, entry: &Path) -> Result<Self, CredentialsError> {
        let credentials = match granted.rules.is_empty() {
            true => None,
            false => {
                let authority = Arc::new(authority(id, entry)?);
                let rules = granted.rules.iter().filter_map(rule).collect();
                Some(Arc::new(Credentials { authority, rules }))
            }
        };
        let proxy = granted.proxy.as_ref().map(|proxy| {
            let kind = match proxy.kind {
                ProxyKind::Socks5 => warren_egress::ProxyKind::Socks5,
                ProxyKind::Http => warren_egress::ProxyKind::Http,
            };
            let user = proxy.user.as_ref().map(|(user, password)| (user.clone(), secret(password)));
            Arc::new(Proxy { kind, host: proxy.host.clone(), port: proxy.port, user })
        });
        Ok(Self { credentials, proxy, awaited: None })
    }

    /// The certificate, as PEM, that the sandbox is to trust.
    #[must_use]
    pub fn certificate(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        Some(credentials.authority.certificate_pem().to_owned())
    }
}

/// A rule with what can be a header's, a method or a host in it; core has refused everything else.
fn rule(granted: &GrantedRule) -> Option<HostRule> {
    let header = |(name, value): &(String, SecretValue)| {
        let mut value = HeaderValue::from_bytes(value.expose()).ok()?;
        value.set_sensitive(true);
        Some((name.parse::<HeaderName>().ok()?, value))
    };
    let placeholder = |(text, value): &(String, SecretValue)| Placeholder {
        text: text.clone(),
        value: secret(value),
    };
    let hidden: Vec<_> = granted.hidden.iter().map(secret).collect();
    let methods = granted.methods.iter();
    Some(HostRule {
        host: HostPattern::parse(&granted.host)?,
        headers: granted.headers.iter().filter_map(header).collect(),
        placeholders: granted.placeholders.iter().map(placeholder).collect(),
        places: Places { query: granted.in_query, body: granted.in_body },
        methods: methods.filter_map(|it| Method::from_bytes(it.as_bytes()).ok()).collect(),
        paths: granted.paths.clone(),
        plain: granted.plain_http,
        masks: Arc::new(Masks::new(&hidden)),
    })
}

fn secret(value: &SecretValue) -> Secret {
    Secret::new(value.expose().to_vec())
}

/// The authority of a sandbox's entry, made where there is none.
fn authority(id: &SandboxId, entry: &Path) -> Result<Authority, CredentialsError> {
    let path = entry.join(FILE);
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(stored) => Authority::restore(id.as_str(), &stored).map_err(CredentialsError::Authority),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Authority::create(id.as_str()).map_err(CredentialsError::Authority)?;
            keep(&made, entry, &path).map_err(CredentialsError::Keep)?;
            Ok(made)
        }
        Err(error) => Err(CredentialsError::Keep(error)),
    }
}

/// Writes an authority under another name first, so that there is never half of one.
fn keep(authority: &Authority, entry: &Path, path: &Path) -> io::Result<()> {
    let new = entry.join(format!("{FILE}.new"));
    // Of a server that was killed here.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(authority.store().as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use warren_core::credentials::GrantedProxy;
    use warren_egress::HostName;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes().to_vec())
    }

    fn granted() -> Granted {
        let rule = GrantedRule {
            host: "*.example".to_owned(),
            headers: vec![("Authorization".to_owned(), value("Bearer hunter2hunter2"))],
            placeholders: vec![("{{secret:A}}".to_owned(), value("hunter2hunter2"))],
            hidden: vec![value("hunter2hunter2")],
            methods: vec!["GET".to_owned()],
            paths: vec!["/me/**".to_owned()],
            ..GrantedRule::default()
        };
        let user = Some(("me".to_owned(), value("password")));
        let (kind, host) = (ProxyKind::Socks5, "p.example".to_owned());
        Granted { rules: vec![rule], proxy: Some(GrantedProxy { kind, host, port: 1080, user }) }
    }

    #[test]
    fn what_core_grants_is_what_the_gate_gives() {
        let entry = tempfile::tempdir().unwrap();
        let given = Given::new(&granted(), &SandboxId::mint(), entry.path()).unwrap();
        let credentials = given.credentials.as_ref().unwrap();
        let rule = credentials.rule(&HostName::parse("api.example").unwrap()).unwrap();
        assert_eq!(rule.headers[0].1, "Bearer hunter2hunter2");
        assert_eq!((rule.methods.len(), rule.paths.len()), (1, 1));
        assert!(!rule.masks.is_empty());
        assert_eq!(given.proxy.as_ref().unwrap().port, 1080);
        assert!(!format!("{given:?}").contains("hunter2"), "{given:?}");
        let none = Given::new(&Granted::default(), &SandboxId::mint(), entry.path()).unwrap();
        assert!(none.credentials.is_none() && none.certificate().is_none());
    }

    #[test]
    fn the_next_server_knows_what_went_through_the_gate() {
        let entry = tempfile::tempdir().unwrap();
        assert_eq!(Needs::load(entry.path()), Needs::default());
        for needs in [Needs { web: true, all: false }, Needs { web: true, all: true }] {
            needs.store(entry.path()).unwrap();
            assert_eq!(Needs::load(entry.path()), needs);
        }
        fs::write(entry.path().join(NEEDS), "w").unwrap();
        assert!(Needs::load(entry.path()).all, "what cannot be read is closed");
        let awaited = Given::awaited(Needs::load(entry.path()));
        assert!(awaited.is_awaited() && awaited.needs().all);
        Needs::default().store(entry.path()).unwrap();
        Needs::default().store(entry.path()).unwrap();
        assert!(!Given::awaited(Needs::load(entry.path())).is_awaited());
    }

    #[test]
    fn a_sandbox_keeps_its_authority_where_nobody_else_reads() {
        let (entry, id) = (tempfile::tempdir().unwrap(), SandboxId::mint());
        fs::write(entry.path().join("authority.pem.new"), "half").unwrap();
        let first = Given::new(&granted(), &id, entry.path()).unwrap().certificate();
        let path = entry.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(Given::new(&granted(), &id, entry.path()).unwrap().certificate(), first);
        assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 1);
        let stored = fs::read_to_string(&path).unwrap();
        assert!(!stored.contains("hunter2"));
        fs::write(&path, "half").unwrap();
        assert!(Given::new(&granted(), &id, entry.path()).is_err());
    }
}
