//! Settings about certificates.

use super::value::{Value, words};

words! {
    /// Where certificates come from beside files.
    TlsSource {
        /// Nowhere.
        Files = "files",
        /// The authority of this machine.
        Local = "local",
        /// One that speaks ACME.
        Acme = "acme",
    }
}

words! {
    /// How an authority is shown that a name is ours.
    AcmeProof {
        /// HTTP-01.
        Http = "http",
        /// TLS-ALPN-01.
        Tls = "tls",
        /// DNS-01.
        Dns = "dns",
    }
}

words! {
    /// Who changes records.
    AcmeDns {
        /// A program of the operator's.
        Hook = "hook",
        /// Cloudflare.
        Cloudflare = "cloudflare",
        /// `DigitalOcean`.
        DigitalOcean = "digitalocean",
        /// Hetzner Cloud.
        Hetzner = "hetzner",
        /// deSEC.
        Desec = "desec",
    }
}

/// Names that certificates are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DomainNames(pub(crate) Vec<String>);

impl Value for DomainNames {
    fn kind() -> String {
        "names such as `sandboxes.example` or `*.sandboxes.example`, separated by commas".into()
    }

    fn read(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let name = text.trim().to_ascii_lowercase();
            let host = name.strip_prefix("*.").unwrap_or(&name);
            // No authority has one for a name without a dot.
            (warren_tls::is_domain(host) && host.contains('.')).then_some(name)
        };
        text.split(',').map(name).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

/// Where somebody gets letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailAddress(pub(crate) String);

impl Value for Option<MailAddress> {
    fn kind() -> String {
        "an address such as `ops@example.com`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (name, host) = text.split_once('@')?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
        let good = plain(name) && plain(host) && !text.contains([',', '?', '<']);
        good.then(|| Some(MailAddress(text.to_owned())))
    }

    fn initial(_default: Option<&str>) -> Self {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_for_names_of_hosts() {
        let read = |text| DomainNames::read(text).map(|it| it.0.join(" "));
        assert_eq!(read("A.example, *.a.example").unwrap(), "a.example *.a.example");
        for bad in ["", "a", "*", "*.example.*", "a.example,", "127.0.0.1", "https://a.example"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_authority_writes_to_an_address() {
        let read = |text| Option::<MailAddress>::read(text).flatten();
        assert!(read("ops@example.com").is_some());
        for bad in ["", "ops", "mailto:", "@", "a@b,c@d", "a b@c"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
