//! Certificates as the settings want them: the local authority, or one that speaks ACME.

use std::{collections::HashMap, net::TcpListener, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use warren_core::{
    Sandboxes,
    domains::{NameService, PROOF_LABEL, Said},
    sandboxes::CertificateNews,
};
use warren_server::{CertificateReport, CertificateSource, CertificateState};
use warren_tls::{
    Certificates,
    acme::{self, Acme, DnsProof, Proof, Status, Wanted},
    dns::{
        Lookup, LookupError, Records, Resolvers,
        hook::Hook,
        provider::{Kind as ProviderKind, Provider},
    },
    local::Authority,
};
use zeroize::Zeroizing;

use super::reload::Reloading;
use crate::{
    config::{AcmeDns, AcmeProof, Config, Environment, TlsSource},
    dirs::Dirs,
    error::{CliError, Kind},
};

/// How often is said that a certificate comes to its end.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// The port at which browsers find the server, where the settings say one.
    outside: Option<u16>,
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
    // Domains of callers may be all that it is for.
    if names.is_empty() && config.tls_cert.is_none() {
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
            lookup: lookup(config),
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
    let outside = config.domain.port();
    let ordered = Ordered { acme: Arc::new(acme), wanted: groups(names), listeners, outside };
    Ok(Others { certificates, acme: Some(ordered) })
}

/// The name servers of the settings, or of this machine.
fn lookup(config: &Config) -> Lookup {
    Lookup::new(match config.name_servers.0.as_slice() {
        [] => Resolvers::File("/etc/resolv.conf".into()),
        named => Resolvers::Fixed(named.to_vec()),
    })
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

    /// Orders and renews, also for domains of callers, until `stop`; `port` is where TLS is spoken
    /// where the settings name no other.
    pub(super) async fn run(self, port: u16, sandboxes: &Sandboxes, stop: CancellationToken) {
        let Some(Ordered { acme, wanted, listeners, outside }) = self.acme else { return };
        let foreign = |name: String| Wanted { names: vec![name], foreign: true };
        let all = || {
            let domains = sandboxes.served_domains().into_iter().map(foreign);
            wanted.iter().cloned().chain(domains).collect()
        };
        let answering = listeners.into_iter().map(|listener| {
            let (answers, stop) = (acme.answers(), stop.clone());
            async move {
                let adopted = listener
                    .set_nonblocking(true)
                    .and_then(|()| tokio::net::TcpListener::from_std(listener));
                let port = outside.unwrap_or(port);
                match adopted {
                    Ok(listener) => acme::serve_answers(listener, answers, port, stop).await,
                    Err(error) => tracing::error!(%error, "nobody answers the authority"),
                }
            }
        });
        let looking = async {
            let mut changes = sandboxes.domain_changes();
            while changes.changed().await.is_ok() {
                acme.look();
            }
        };
        tokio::join!(
            join_all(answering),
            acme.run(all, stop.clone()),
            stop.run_until_cancelled(looking),
            stop.run_until_cancelled(tell(&acme, &wanted, sandboxes)),
        );
    }
}

/// Tells of what failed and of what comes to its end: owners of domains by events, the operator by
/// the log.
async fn tell(acme: &Acme, own: &[Wanted], sandboxes: &Sandboxes) {
    let mut changes = acme.changes();
    let mut daily = tokio::time::interval(DAY);
    let (mut failed, mut ended) = (HashMap::new(), HashMap::new());
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = daily.tick() => ended.clear(),
        }
        for status in acme.status() {
            let Status { names, until, ending, failure, next_at } = status;
            let foreign = own.iter().all(|it| it.names != names);
            let Some(name) = names.first().cloned() else { continue };
            if let Some(reason) = failure
                && failed.insert(name.clone(), next_at) != Some(next_at)
                && foreign
            {
                sandboxes.tell_certificate(&name, CertificateNews::Failed(reason));
            }
            if let Some(until) = until.filter(|_| ending)
                && ended.insert(name.clone(), until) != Some(until)
            {
                tracing::warn!(?names, until, "a certificate comes to its end");
                if foreign {
                    sandboxes.tell_certificate(&name, CertificateNews::Ending { until });
                }
            }
        }
    }
}

/// What is known of certificates, for the server's face.
#[derive(Debug)]
pub(super) struct Known {
    tls: Reloading,
    acme: Option<Arc<Acme>>,
}

impl Known {
    pub(super) fn new(tls: Reloading, acme: Option<Arc<Acme>>) -> Self {
        Self { tls, acme }
    }
}

impl CertificateSource for Known {
    fn report(&self) -> CertificateReport {
        let state = |status: Status| CertificateState {
            names: status.names,
            until: status.until.filter(|until| *until > warren_tls::now()),
            ending: status.ending,
            failure: status.failure,
        };
        let acme = self.acme.as_ref();
        CertificateReport {
            ordered: acme
                .map(|it| it.status().into_iter().map(state).collect())
                .unwrap_or_default(),
            file: self.tls.state(),
            failures: acme.map_or(0, |it| it.failures()),
        }
    }

    fn challenge(&self, token: &str) -> Option<String> {
        self.acme.as_ref()?.answers().get(token)
    }
}

/// The name servers, asked whose a domain is.
#[derive(Debug)]
pub(super) struct Names(Lookup);

impl Names {
    pub(super) fn new(config: &Config) -> Self {
        Self(lookup(config))
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
