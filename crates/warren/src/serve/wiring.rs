//! Settings as the other crates want them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use warren_core::{
    config::{AllowedDirectory, Config as CoreConfig, Defaults, LogConfig, PoolConfig, Retention},
    quota::Quota,
    runtime::Capabilities,
    spec::{self, Image, Limits, OciImage},
};
use warren_runtime::{
    images, namespace,
    net::{NetConfig, Subnet, resolver::Upstreams, uplink::Tool},
    rootless,
    storage::{Driver, backing},
};
use warren_server::edge::{self, EdgeKey};

use crate::{
    config::{Config, Environment, Runtime, Storage, Uplink},
    dirs::Dirs,
    error::CliError,
};

/// What has no limit still needs one where a timer runs.
const VERY_LONG: Duration = Duration::from_secs(365 * 24 * 3600);

/// What core is told. Where no sandbox can have a network, none is the default.
pub(super) fn core(config: &Config, capabilities: &Capabilities) -> CoreConfig {
    let defaults = Defaults {
        image: image(&config.image),
        limits: limits(config),
        profile: match config.profile {
            warren_api::sandbox::Profile::Default => spec::Profile::Default,
            warren_api::sandbox::Profile::Strict => spec::Profile::Strict,
        },
        network: match config.network {
            warren_api::network::Reach::Open if capabilities.network => spec::Network::Open,
            _ => spec::Network::None,
        },
        lifetime: some_time(config.lifetime.0),
        longest_lifetime: some_time(config.lifetime_max.0),
        most_memory: Some(match config.memory_max.0 {
            // What a request gets that does not say must be possible.
            0 => namespace::machine_memory().max(config.memory.0),
            most => most,
        }),
        ..Defaults::default()
    };
    // An image of a registry is known by its name alone until somebody asks for it.
    let parked = match defaults.image {
        Image::Oci(_) => Vec::new(),
        _ => vec![(defaults.spec(), config.parked as usize)],
    };
    CoreConfig {
        pool: PoolConfig { parked },
        defaults,
        quota: Quota {
            sandboxes: config.max_sandboxes,
            memory_bytes: (config.max_memory.0 > 0).then_some(config.max_memory.0),
        },
        retention: Retention {
            ended: config.keep_ended.0,
            stopped: some_time(config.keep_stopped.0),
            events: config.keep_events.into(),
            ..Retention::default()
        },
        mounts: config
            .mounts
            .0
            .iter()
            .map(|(path, read_only)| AllowedDirectory { path: path.clone(), read_only: *read_only })
            .collect(),
        logs: LogConfig {
            most_bytes: config.sandbox_log.0,
            burst_bytes: config.sandbox_log.0,
            // None at all would keep a command waiting for ever.
            bytes_per_second: config.sandbox_log_rate.0.max(1024),
        },
        host_images_for_all: config.host_images_for_keys,
        registries_for_all: config.registries_for_keys.0.clone(),
        seal_key: None,
        issuer: config.domain.api_address(),
        domains: own_domains(config),
    }
}

/// The domains that are the server's own: those of its certificates, and that of its ports.
fn own_domains(config: &Config) -> Vec<String> {
    let names = config.tls_names.0.iter().map(|name| name.trim_start_matches("*.").to_owned());
    let mut domains: Vec<_> = names.chain([config.domain.name().to_owned()]).collect();
    domains.sort_unstable();
    domains.dedup();
    domains
}

/// What the server's face is told.
pub(super) fn face(config: &Config, key: EdgeKey) -> warren_server::Config {
    warren_server::Config {
        body_bytes: usize::try_from(config.body_limit.0).unwrap_or(usize::MAX),
        streams_per_sandbox: config.streams_per_sandbox,
        requests_per_second: config.requests_per_second,
        connections: config.connections,
        connections_per_address: config.connections_per_address,
        head_timeout: some_time(config.head_timeout.0).unwrap_or(VERY_LONG),
        tls_timeout: some_time(config.tls_timeout.0).unwrap_or(VERY_LONG),
        origins: config.origins.0.clone(),
        edge: edge::Settings {
            domain: config.domain.clone(),
            key,
            patience: config.wake_time.0,
            requests_per_sandbox: config.requests_per_sandbox,
            trusted_proxies: config.trusted_proxies.0.clone(),
        },
    }
}

/// What the namespace runtime is told.
pub(super) fn runtime(
    config: &Config,
    dirs: &Dirs,
    storage: backing::Storage,
    environment: &Environment,
) -> namespace::Config {
    match config.runtime {
        Runtime::Namespace => {}
    }
    namespace::Config {
        data_dir: storage.directory,
        run_dir: dirs.run.clone(),
        instance: dirs.instance.clone(),
        agent: warren_agent_image::AGENT,
        blanks: config.blanks as usize,
        limits: limits(config),
        all_memory_bytes: (config.memory_of_all.0 > 0).then_some(config.memory_of_all.0),
        storage: match config.storage {
            Storage::Auto => Driver::Auto,
            Storage::Dir => Driver::Directory,
            Storage::Btrfs => Driver::Btrfs,
        },
        backing: storage.backing,
        disk_reserve_bytes: config.disk_reserve.0,
        network: network(config, rootless::uplink()),
        layers_by_path: false,
        images: images(config, environment),
    }
}

/// What the image store is told.
fn images(config: &Config, environment: &Environment) -> images::Settings {
    let variable = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name));
    let chosen = config.registry_proxy.as_ref().map(|proxy| proxy.0.clone());
    let proxy = |names| chosen.clone().or_else(|| variable(names).map(str::to_owned));
    let docker = || {
        let directory = match environment.get("DOCKER_CONFIG") {
            Some(directory) => PathBuf::from(directory),
            None => Path::new(environment.get("HOME")?).join(".docker"),
        };
        Some(directory.join("config.json"))
    };
    images::Settings {
        mirrors: config.registry_mirrors.0.clone(),
        plain: config.plain_registries.0.clone(),
        proxy: images::Proxy {
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            except: variable(["NO_PROXY", "no_proxy"]).map(str::to_owned),
        },
        docker_config: config.docker_config.clone().or_else(docker),
        docker_host: environment.get("DOCKER_HOST").map(str::to_owned),
        environment: environment.for_server(),
        most_bytes: (config.images_size.0 > 0).then_some(config.images_size.0),
        most_image_bytes: Some(config.image_size.0),
        most_image_files: Some(config.image_files.into()),
    }
}

/// The program that is to carry packets; none where any may.
pub(super) fn uplink(config: &Config) -> Option<Tool> {
    match config.uplink {
        Uplink::Auto => None,
        Uplink::Pasta => Some(Tool::Pasta),
        Uplink::Slirp4netns => Some(Tool::Slirp4netns),
    }
}

/// An ordinary user's server has a network where it has a way out of its own namespaces.
fn network(config: &Config, uplink: Option<Result<Tool, &str>>) -> namespace::Network {
    match uplink {
        Some(Err(reason)) => namespace::Network::Off(reason.to_owned()),
        None | Some(Ok(_)) => namespace::Network::On(NetConfig {
            subnet: config.subnet.and_then(|it| Subnet::new(it.address, it.prefix).ok()),
            allow: config.reachable.0.clone(),
            without_six: config.ipv6 == crate::config::Six::Off,
            outside: rootless::outside(),
            ..NetConfig::default()
        }),
    }
}

/// The authorities that are trusted besides those of this machine, as PEM.
pub(super) fn roots(config: &Config) -> Result<Vec<u8>, CliError> {
    let Some(path) = &config.egress_ca else { return Ok(Vec::new()) };
    let failed = |error: std::io::Error| {
        CliError::local("read the authorities of `egress_ca`")(error)
            .hint(format!("`{}` is to hold certificates in PEM", path.display()))
    };
    let text = std::fs::read(path).map_err(failed)?;
    match text.windows(BEGIN.len()).any(|part| part == BEGIN) {
        true => Ok(text),
        false => Err(failed(std::io::ErrorKind::InvalidData.into())),
    }
}

/// How a certificate in PEM begins.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Where names are asked for: at the servers that somebody chose, at those of the host, or at what
/// the way out has for it.
pub(super) fn upstreams(config: &Config) -> Upstreams {
    match rootless::uplink() {
        _ if !config.name_servers.0.is_empty() => Upstreams::Fixed(config.name_servers.0.clone()),
        Some(Ok(tool)) => Upstreams::Fixed(vec![tool.name_server()]),
        _ => Upstreams::File("/etc/resolv.conf".into()),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        memory_bytes: config.memory.0,
        cpu_millis: config.cpus.0,
        pids: config.pids,
        open_files: config.open_files,
        disk_bytes: config.disk.map(|it| it.0),
    }
}

fn image(text: &str) -> Image {
    match text.split_once(':') {
        None if text == "host" => Image::Host,
        Some(("dir", path)) => Image::Directory(PathBuf::from(path)),
        Some(("tar", path)) => Image::Archive(PathBuf::from(path)),
        _ => Image::Oci(OciImage { reference: text.to_owned(), id: None }),
    }
}

/// Settings say 0 for no limit.
fn some_time(length: Duration) -> Option<Duration> {
    (!length.is_zero()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_what_its_text_says() {
        assert_eq!(image("host"), Image::Host);
        assert_eq!(image("dir:/a:b"), Image::Directory("/a:b".into()));
        assert_eq!(image("tar:/a.tar"), Image::Archive("/a.tar".into()));
        assert_eq!(
            image("debian:13"),
            Image::Oci(OciImage { reference: "debian:13".into(), id: None })
        );
    }

    #[test]
    fn without_a_network_none_is_the_default() {
        let core = core(&Config::default(), &Capabilities::default());
        assert_eq!(core.defaults.network, spec::Network::None);
    }

    #[test]
    fn limits_of_the_server_reach_core() {
        let config = Config {
            max_sandboxes: 7,
            max_memory: crate::config::Size(1 << 30),
            keep_stopped: crate::config::Lasting(Duration::from_secs(60)),
            ..Config::default()
        };
        let core = core(&config, &Capabilities::default());
        assert_eq!(core.quota, Quota { sandboxes: 7, memory_bytes: Some(1 << 30) });
        assert_eq!(core.retention.stopped, Some(Duration::from_secs(60)));
        assert_eq!(CoreConfig::default().quota.memory_bytes, None);
    }

    #[test]
    fn defaults_reach_core_and_the_pool_alike() {
        let config = Config::default();
        let capabilities = Capabilities { network: true, ..Capabilities::default() };
        let core = core(&config, &capabilities);
        assert_eq!(core.defaults.limits.memory_bytes, config.memory.0);
        assert_eq!(core.defaults.longest_lifetime, None);
        assert_eq!(core.pool.parked, vec![(core.defaults.spec(), 2)]);
    }
}
