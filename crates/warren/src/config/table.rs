//! The table of settings: the only list of them.

use std::path::PathBuf;

use warren_api::{network::Reach, sandbox::Profile};
use warren_server::edge::Domain;

use super::{
    listen::{Addresses, Origins, Proxies},
    names::NameServers,
    networks::{Networks, Six},
    registries::{Mirrors, Names, Proxy},
    tls::{AcmeDns, AcmeProof, DomainNames, MailAddress, TlsSource},
    value::{Cpus, Directories, Lasting, Level, Runtime, Size, Storage, Subnet, Uplink, Value},
};

/// One row of the table, for the reference page and for messages.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in `warren.toml`; in the environment upper case after `WARREN_`.
    pub(crate) name: &'static str,
    /// Its value where nobody says otherwise; `None` where that is found out at run time.
    pub(crate) default: Option<&'static str>,
    /// What it takes.
    pub(crate) kind: fn() -> String,
    /// What it does.
    pub(crate) text: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $text:literal])+ $name:ident: $type:ty = $default:expr,)+) => {
        /// Every setting, with its value.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Config {
            $($(#[doc = $text])+ pub(crate) $name: $type,)+
        }

        /// Every setting, in the order of the reference page.
        pub(crate) const SETTINGS: &[Setting] = &[
            $(Setting {
                name: stringify!($name),
                default: $default,
                kind: <$type as Value>::kind,
                text: concat!($($text),+),
            },)+
        ];

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: <$type as Value>::initial($default),)+ }
            }
        }

        impl Config {
            /// Sets one setting: `None` when there is none of that name, an error that says what
            /// was expected when it does not take that value.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), String>> {
                match name {
                    $(stringify!($name) => {
                        let value = <$type as Value>::read(text);
                        Some(value.map(|value| self.$name = value).ok_or_else(<$type as Value>::kind))
                    })+
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// Where sandboxes, images and the database are kept. `/var/lib/warren` for root, else
    /// `$XDG_DATA_HOME/warren`, which usually is `~/.local/share/warren`. Each data directory has
    /// a server of its own.
    data_dir: Option<PathBuf> = None,
    /// Where sockets and locks are kept; at most 80 bytes. A directory named after the data
    /// directory's path: in `/run/warren` for root, else in `$XDG_RUNTIME_DIR/warren`, else in
    /// `/tmp/warren-UID`.
    run_dir: Option<PathBuf> = None,
    /// How new sandboxes are isolated.
    runtime: Runtime = Some("namespace"),
    /// What the root filesystem of a sandbox is made from where the request does not say: `host`,
    /// `dir:PATH`, `tar:PATH` or an image of a registry such as `python:3.12`.
    image: String = Some("host"),
    /// How long a sandbox lives where the request does not say.
    lifetime: Lasting = Some("24h"),
    /// The longest lifetime that a request may ask for.
    lifetime_max: Lasting = Some("0"),
    /// Memory of a sandbox where the request does not say.
    memory: Size = Some("1 GiB"),
    /// Processor time of a sandbox where the request does not say.
    cpus: Cpus = Some("2"),
    /// Processes and threads of a sandbox where the request does not say.
    pids: u32 = Some("512"),
    /// Open files of one process where the request does not say.
    open_files: u32 = Some("4096"),
    /// What a sandbox may write to its root filesystem where the request does not say. It needs
    /// storage with limits (`warren setup storage`); without, the server does not start.
    disk: Option<Size> = None,
    /// How much the root of a sandbox may do where the request does not say.
    profile: Profile = Some("default"),
    /// What a sandbox may reach where the request does not say.
    network: Reach = Some("open"),
    /// The addresses of sandboxes. It must not overlap a network that the host reaches; without
    /// it the server takes one that does not.
    subnet: Option<Subnet> = None,
    /// Networks that sandboxes may reach although they are private or near: with commas, of IPv4 or
    /// IPv6. A sandbox with rules reaches of them what its rules allow; an address of this machine
    /// itself stays out of reach.
    reachable: Networks = Some(""),
    /// Whether sandboxes have IPv6: `auto` where the machine has a way to the internet by it.
    ipv6: Six = Some("auto"),
    /// The program that carries the packets of an ordinary user's server: `pasta` or `slirp4netns`.
    /// `auto` takes the first of both that is there and works.
    uplink: Uplink = Some("auto"),
    /// The name servers that questions of sandboxes are passed on to. Without it, those that the
    /// host asks itself.
    name_servers: NameServers = None,
    /// A file of authorities in PEM that are trusted besides those of this machine where requests of
    /// sandboxes are given credentials.
    egress_ca: Option<PathBuf> = None,
    /// How many sandboxes are kept ready but for their image; every template uses them.
    blanks: u32 = Some("8"),
    /// How many fully started sandboxes of the default template are kept.
    parked: u32 = Some("2"),
    /// After how long without a sandbox and without a request a server ends that a command has
    /// started in the background; `0` for never.
    idle_exit: Lasting = Some("5m"),
    /// Where the files of sandboxes are kept.
    storage: Storage = Some("auto"),
    /// How much of what that is on stays free: while less is, no sandbox is made. A tenth of it at
    /// most.
    disk_reserve: Size = Some("256 MiB"),
    /// The most memory that a request may ask for; `0` for all that the machine has.
    memory_max: Size = Some("0"),
    /// How much memory all sandboxes together use at most, whatever they are allowed; `0` for
    /// nine tenths of what the machine has.
    memory_of_all: Size = Some("0"),
    /// Directories of this machine that every sandbox may mount, also those of callers with a key,
    /// with all that is beneath them; nobody else's. Without it, callers on the local socket may
    /// mount directories that do not belong to root, and read-only ones that do.
    mounts: Directories = Some(""),
    /// How many sandboxes may live at the same time; parked and stopped ones do not count.
    max_sandboxes: u32 = Some("2000"),
    /// How much memory all living sandboxes together may be allowed; `0` for no limit.
    max_memory: Size = Some("0"),
    /// For how long a stopped sandbox keeps its files; `0` for as long as nobody removes it.
    keep_stopped: Lasting = Some("0"),
    /// For how long a sandbox that ended without files to keep stays listed, with the reason.
    keep_ended: Lasting = Some("24h"),
    /// How many events are kept, the newest.
    keep_events: u32 = Some("50000"),
    /// How much of what detached commands write is kept of each sandbox, the newest.
    sandbox_log: Size = Some("4 MiB"),
    /// How much of one detached command's output is taken each second, after as much as
    /// `sandbox_log` at once; a command that writes faster waits.
    sandbox_log_rate: Size = Some("1 MiB"),
    /// How long the log file of a server in the background may get; one before it is kept.
    log_size: Size = Some("16 MiB"),
    /// The TCP addresses that the server listens on, beside its unix socket. Clients there show an
    /// API key, which `warren key create` makes. A server that listens on TCP does not end by
    /// itself.
    listen: Addresses = None,
    /// Whether clients on TCP need no key. For loopback addresses alone: with any other the server
    /// does not start. They work in project `default`, and every user of this machine may be one.
    no_auth: bool = Some("false"),
    /// Whether TCP without TLS is served on addresses that are no loopback: for networks that
    /// nobody else reaches, as between a container and a proxy with a certificate.
    plain_tcp: bool = Some("false"),
    /// The file of the certificate for TCP in PEM, with those above it behind it. The server reads
    /// it again when it changes, or when it gets the signal HUP.
    tls_cert: Option<PathBuf> = None,
    /// The file of the certificate's key, in PEM.
    tls_key: Option<PathBuf> = None,
    /// Where certificates for TCP come from beside those files: `files` for nowhere, `local` for
    /// the authority that `warren ca init` makes, `acme` for one such as Let's Encrypt.
    tls: TlsSource = Some("files"),
    /// The names that the server has certificates for with `acme`, such as
    /// `sandboxes.example, *.sandboxes.example`.
    tls_names: DomainNames = None,
    /// The directory of the authority with `acme`. The one for tests of Let's Encrypt, which has
    /// wide limits and whose certificates nobody trusts, is
    /// `https://acme-staging-v02.api.letsencrypt.org/directory`.
    acme_directory: String = Some("https://acme-v02.api.letsencrypt.org/directory"),
    /// Whether you agree to the terms of service of that authority; without it there is no account.
    acme_terms_agreed: bool = Some("false"),
    /// The address that the authority may write to, such as `ops@example.com`.
    acme_contact: Option<MailAddress> = None,
    /// How the authority is shown that names are yours: `http` at port 80 of each name, `tls` at
    /// port 443 of each name, `dns` by a record, which names that begin with `*.` need.
    acme_proof: AcmeProof = Some("tls"),
    /// The addresses that answer the authority with `http`, in the clear; everybody else is sent to
    /// TLS. Its requests must arrive here from port 80.
    acme_http_listen: Addresses = None,
    /// Who changes records with `dns`: `hook` for a program of yours, or a provider.
    acme_dns: AcmeDns = Some("hook"),
    /// The program with `hook`, called as `PROGRAM add NAME TEXT` and `PROGRAM remove NAME TEXT`.
    acme_dns_hook: Option<PathBuf> = None,
    /// The file with the provider's token, which nobody else should be able to read. Without it, the
    /// variable `WARREN_ACME_DNS_TOKEN` of the server's environment.
    acme_dns_token_file: Option<PathBuf> = None,
    /// How long a record may take until all servers of its zone know it, and the program to be done.
    acme_dns_time: Lasting = Some("5m"),
    /// A file of certificate authorities in PEM that are trusted for the directory's address, for
    /// an authority of your own.
    acme_roots: Option<PathBuf> = None,
    /// How often in a week a certificate is ordered at most.
    acme_orders_per_week: u32 = Some("10"),
    /// The pages that may use this server from a browser, beside its own.
    origins: Origins = None,
    /// The domain below which ports of sandboxes have names, `PORT-ID.DOMAIN`: one that nothing else
    /// is below, and all names below it lead to this server. With a scheme and a port where a proxy
    /// before the server has others than it, such as `https://sandboxes.example`. Names below
    /// `localhost` lead browsers to their own machine.
    domain: Domain = Some("localhost"),
    /// Proxies before this server, which are believed when they say where a request to a port came
    /// from.
    trusted_proxies: Proxies = None,
    /// How long a visitor of a port waits for a sandbox that is being started or woken.
    wake_time: Lasting = Some("15s"),
    /// How many requests to the ports of one sandbox may be under way.
    requests_per_sandbox: u32 = Some("1024"),
    /// How many requests a second a key may make, with bursts of twice as many; `0` for no limit.
    requests_per_second: u32 = Some("100"),
    /// How many TCP connections may be open.
    connections: u32 = Some("4096"),
    /// How many of them from one address; of IPv6 from one network of /64.
    connections_per_address: u32 = Some("512"),
    /// How long a client on TCP may take for the head of a request, and a connection may idle.
    head_timeout: Lasting = Some("30s"),
    /// How long a client may take for TLS to come about.
    tls_timeout: Lasting = Some("10s"),
    /// The largest body of a request that is not a file. One that runs a command may be 16 times
    /// as large, for it brings what the command reads.
    body_limit: Size = Some("1 MiB"),
    /// How many streams of one sandbox may be open: output, conversations, watches, ports; and of
    /// events as many for each project.
    streams_per_sandbox: u32 = Some("256"),
    /// Whether clients with a key may name directories and archives of the server's machine as
    /// images. Whoever may can read every file there that the server can.
    host_images_for_keys: bool = Some("false"),
    /// The registries that clients with a key may have images pulled from, `*` for any: whoever may
    /// name one makes this server talk to it.
    registries_for_keys: Names = Some("docker.io"),
    /// Where images are looked for before their own registry is asked.
    registry_mirrors: Mirrors = None,
    /// Registries that are spoken to without TLS, as those on loopback addresses are.
    plain_registries: Names = None,
    /// The proxy to registries. Without it, what the variables `HTTPS_PROXY`, `HTTP_PROXY` and
    /// `NO_PROXY` of the server's environment say.
    registry_proxy: Option<Proxy> = None,
    /// The file with the credentials for registries, as Docker keeps them: used for callers on the
    /// local socket alone. Without it, `config.json` in `$DOCKER_CONFIG`, else in `~/.docker`.
    docker_config: Option<PathBuf> = None,
    /// How much disk space all images may take together; those that nobody has used for the
    /// longest time go first, those in use stay. `0` for no limit.
    images_size: Size = Some("0"),
    /// How large one image may be, unpacked.
    image_size: Size = Some("32 GiB"),
    /// How many files, directories and links the layers of one image may have together.
    image_files: u32 = Some("4000000"),
    /// How much the server writes to its log.
    log: Level = Some("info"),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_reads() {
        let config = Config::default();
        assert_eq!(config.memory, Size(1 << 30));
        assert_eq!((config.data_dir, config.disk), (None, None));
    }
}
