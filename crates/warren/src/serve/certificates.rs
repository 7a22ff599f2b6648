//! Certificates as the settings want them: the local authority, or one that speaks ACME.

use std::{net::TcpListener, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use warren_core::domains::{NameService, PROOF_LABEL, Said};
use warren_server::CertificateReport;
use warren_tls::{
    Certificates,
    acme::{self, Acme, DnsProof, Proof, Wanted},
    dns::{
        Lookup, LookupError, Records, Resolvers,
        hook::Hook,
        provider::{Kind as ProviderKind, Provider},
    },
    local::Authority,
};
use zeroize::Zeroizing;

use crate::{
    config::{AcmeDns, AcmeProof, Config, Environment, TlsSource},
    dirs::Dirs,
    error::{CliError, Kind},
};

/// How often is looked whether there are other domains.
const LOOK: Duration = Duration::from_secs(10);

/// What there is beside certificates of files.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) certificates: Certificates,
    acme: Option<Ordered>,
}

/// Certificates that are ordered.
#[derive(Debug)]
struct Ordered {
    acme: Arc<Acme>,
    wanted: Vec<Wanted>,
    /// Where HTTP-01 is answered.
    listeners: Vec<TcpListener>,
}

/// Opens what the settings name; none where certificates are of files alone.
pub(super) fn open(
    config: &Config,
    dirs: &Dirs,
    environment: &Environment,
) -> Result<Option<Others>, CliError> {
    match config.tls {
        TlsSource::Files => Ok(None),
        TlsSource::Local => {
            let found = Authority::open(&dirs.data);
            let found = found.map_err(|error| CliError::new(Kind::Local, error))?;
            let authority = found.ok_or_else(|| {
                CliError::usage("`tls` is `local`, and there is no local authority")
                    .hint("`warren ca init` makes one")
            })?;
            Ok(Some(Others { certificates: Certificates::with_local(authority), acme: None }))
        }
        TlsSource::Acme => ordered(config, dirs, environment).map(Some),
    }
}

fn ordered(config: &Config, dirs: &Dirs, environment: &Environment) -> Result<Others, CliError> {
    if !config.acme_terms_agreed {
        let error = "an authority gives certificates to those who agree to its terms of service";
        let hint = format!("read them ({}), then set acme_terms_agreed", config.acme_directory);
        return Err(CliError::usage(error).hint(hint));
    }
    let names = &config.tls_names.0;
    if names.is_empty() {
        return Err(CliError::usage("`tls` is `acme`, and `tls_names` names nothing")
            .hint("--set tls_names=sandboxes.example"));
    }
    let star = names.iter().find(|name| name.starts_with("*."));
    if let (Some(star), false) = (star, config.acme_proof == AcmeProof::Dns) {
        let error = format!("a certificate for {star} can be had by a record alone");
        return Err(CliError::usage(error).hint("set acme_proof to `dns`"));
    }
    let proof = match config.acme_proof {
        AcmeProof::Http if config.acme_http_listen.0.is_empty() => {
            return Err(CliError::usage(
                "with `acme_proof` `http` somebody must answer on port 80",
            )
            .hint("--set acme_http_listen=0.0.0.0:80"));
        }
        AcmeProof::Http => Proof::Http,
        AcmeProof::Tls => Proof::TlsAlpn,
        AcmeProof::Dns => Proof::Dns(Arc::new(DnsProof {
            records: records(config, environment)?,
            lookup: lookup(),
            within: config.acme_dns_time.0,
        })),
    };
    let listeners = match proof {
        Proof::Http => &config.acme_http_listen.0[..],
        _ => &[],
    };
    let listeners = listeners.iter().map(|address| super::tcp::bind(*address));
    let listeners = listeners.collect::<Result<_, _>>()?;
    let settings = acme::Settings {
        directory: dirs.data.join("tls/acme"),
        url: config.acme_directory.clone(),
        roots: config.acme_roots.clone(),
        contact: config.acme_contact.as_ref().map(|it| format!("mailto:{}", it.0)),
        proof,
        orders_per_week: config.acme_orders_per_week,
    };
    let certificates = Certificates::default();
    let acme = Acme::open(settings, certificates.clone());
    let acme = acme.map_err(|error| CliError::new(Kind::Local, error))?;
    let ordered = Ordered { acme: Arc::new(acme), wanted: groups(names), listeners };
    Ok(Others { certificates, acme: Some(ordered) })
}

/// The name servers of this machine.
fn lookup() -> Lookup {
    Lookup::new(Resolvers::File("/etc/resolv.conf".into()))
}

/// Who changes records.
fn records(config: &Config, environment: &Environment) -> Result<Box<dyn Records>, CliError> {
    let kind = match config.acme_dns {
        AcmeDns::Cloudflare => ProviderKind::Cloudflare,
        AcmeDns::DigitalOcean => ProviderKind::DigitalOcean,
        AcmeDns::Hetzner => ProviderKind::Hetzner,
        AcmeDns::Desec => ProviderKind::Desec,
        AcmeDns::Hook => {
            let program = config.acme_dns_hook.clone().ok_or_else(|| {
                CliError::usage("`acme_dns` is `hook`, and `acme_dns_hook` names no program")
                    .hint("docs/tls.md shows one; or name a provider with acme_dns")
            })?;
            let token_file = config.acme_dns_token_file.clone();
            let within = config.acme_dns_time.0;
            return Ok(Box::new(Hook { program, within, token_file }));
        }
    };
    let token = token(config, environment)?;
    let provider = Provider::open(kind, token);
    Ok(Box::new(provider.map_err(|error| CliError::new(Kind::Local, error))?))
}

fn token(config: &Config, environment: &Environment) -> Result<Zeroizing<String>, CliError> {
    let text = match &config.acme_dns_token_file {
        Some(file) => Zeroizing::new(
            std::fs::read_to_string(file).map_err(CliError::local("read the provider's token"))?,
        ),
        None => {
            Zeroizing::new(environment.get("WARREN_ACME_DNS_TOKEN").unwrap_or_default().to_owned())
        }
    };
    let token = text.trim();
    // What is no text of a header would fail later, and be shown by whoever complains.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CliError::usage("the provider of names wants a token, and there is none")
            .hint("acme_dns_token_file names a file with it, or WARREN_ACME_DNS_TOKEN is it"));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// Each name with its `*.` in one certificate.
fn groups(names: &[String]) -> Vec<Wanted> {
    let base = |name: &str| name.strip_prefix("*.").unwrap_or(name).to_owned();
    let mut groups: Vec<Wanted> = Vec::new();
    for name in names {
        let same = |it: &&mut Wanted| it.names.iter().any(|other| base(other) == base(name));
        match groups.iter_mut().find(same) {
            Some(group) if group.names.contains(name) => {}
            Some(group) => group.names.push(name.clone()),
            None => groups.push(Wanted { names: vec![name.clone()], foreign: false }),
        }
    }
    groups
}

impl Others {
    /// What orders certificates, where one does.
    pub(super) fn acme(&self) -> Option<Arc<Acme>> {
        self.acme.as_ref().map(|it| Arc::clone(&it.acme))
    }

    /// Orders and renews, until `stop`; `port` is where TLS is spoken, and `domains` are names of
    /// somebody else's that are wanted now.
    pub(super) async fn run(
        self,
        port: u16,
        domains: impl Fn() -> Vec<String>,
        stop: CancellationToken,
    ) {
        let Some(Ordered { acme, wanted, listeners }) = self.acme else { return };
        let foreign = |name: String| Wanted { names: vec![name], foreign: true };
        let wanted = || {
            let domains = domains().into_iter().map(foreign);
            wanted.iter().cloned().chain(domains).collect()
        };
        let answering = listeners.into_iter().map(|listener| {
            let (answers, stop) = (acme.answers(), stop.clone());
            async move {
                let adopted = listener
                    .set_nonblocking(true)
                    .and_then(|()| tokio::net::TcpListener::from_std(listener));
                match adopted {
                    Ok(listener) => acme::serve_answers(listener, answers, port, stop).await,
                    Err(error) => tracing::error!(%error, "nobody answers the authority"),
                }
            }
        });
        let looking = async {
            let (mut known, mut look) = (domains(), tokio::time::interval(LOOK));
            loop {
                look.tick().await;
                let now = domains();
                if known != now {
                    known = now;
                    acme.look();
                }
            }
        };
        tokio::select! {
            _ended = async {
                tokio::join!(join_all(answering), acme.run(wanted, stop.clone()))
            } => {}
            () = looking => {}
        }
    }
}

/// How the certificates are, in numbers.
pub(super) fn report(acme: &Acme) -> CertificateReport {
    let all = acme.status();
    let good = all.iter().filter(|it| it.until.is_some_and(|until| until > warren_tls::now()));
    let good = good.count();
    CertificateReport {
        good,
        missing: all.len() - good,
        failing: all.iter().filter(|it| it.failure.is_some()).count(),
        first_end: all.iter().filter_map(|it| it.until).min(),
        failures: acme.failures(),
    }
}

/// The name servers of this machine, asked whose a domain is.
#[derive(Debug)]
pub(super) struct Names(Lookup);

impl Default for Names {
    fn default() -> Self {
        Self(lookup())
    }
}

#[async_trait]
impl NameService for Names {
    async fn ask(&self, name: &str) -> Result<Said, String> {
        let said = |error: LookupError| error.to_string();
        let texts = self.0.text(&format!("{PROOF_LABEL}.{name}")).await.map_err(said)?;
        let target = self.0.target(name).await.map_err(said)?;
        Ok(Said { texts, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &[(&str, &str)]) -> String {
        let base = tempfile::tempdir().unwrap();
        let set: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let environment = Environment::default();
        let overrides = crate::config::Overrides::of_test(set);
        let config = crate::config::load(&environment, &overrides, false).unwrap();
        open(&config, &Dirs::of_test(base.path()), &environment).unwrap_err().source.to_string()
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused_before_anything_is_ordered() {
        let acme = [("tls", "acme"), ("acme_terms_agreed", "true"), ("tls_names", "*.a.example")];
        let with = |more: &[(&'static str, &'static str)]| refused(&[&acme[..], more].concat());
        assert!(refused(&[("tls", "local")]).contains("there is no local authority"));
        assert!(refused(&[("tls", "acme")]).contains("terms of service"));
        assert!(refused(&acme[..2]).contains("`tls_names` names nothing"));
        assert!(with(&[]).contains("by a record alone"));
        let dns = ("acme_proof", "dns");
        assert!(with(&[dns]).contains("names no program"));
        assert!(with(&[dns, ("acme_dns", "desec")]).contains("wants a token"));
        let http = [("tls_names", "a.example"), ("acme_proof", "http")];
        assert!(with(&http).contains("port 80"));
        let plain = ("acme_directory", "http://ca.example/directory");
        assert!(with(&[("tls_names", "a.example"), plain]).contains("https://"));
    }

    #[test]
    fn a_name_and_its_star_share_a_certificate() {
        let names = ["a.example", "*.a.example", "b.example", "a.example"].map(str::to_owned);
        let groups = groups(&names);
        let names: Vec<_> = groups.iter().map(|it| it.names.join(" ")).collect();
        assert_eq!(names, ["a.example *.a.example", "b.example"]);
    }
}
