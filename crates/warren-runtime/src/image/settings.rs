//! What the image store is told when it is opened.

use std::path::PathBuf;

/// Settings of the image store.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which registry is asked for in which other place first: its name and an address such as
    /// `https://mirror.example`.
    pub mirrors: Vec<(String, String)>,
    /// Registries that are spoken to without TLS, as those on loopback addresses are.
    pub plain: Vec<String>,
    /// How registries are reached.
    pub proxy: Proxy,
    /// The file with credentials, as Docker keeps them.
    pub docker_config: Option<PathBuf>,
    /// Where Docker is asked for images, such as `unix:///run/docker.sock`; where it usually
    /// listens where absent.
    pub docker_host: Option<String>,
    /// The environment of programs that are asked for credentials and images, as `NAME=value`:
    /// `PATH` and `HOME` at least.
    pub environment: Vec<String>,
    /// How much disk space all images may take, in bytes.
    pub most_bytes: Option<u64>,
    /// How much one image may take, in bytes.
    pub most_image_bytes: Option<u64>,
    /// How many entries the layers of one image may have.
    pub most_image_files: Option<u64>,
}

/// The proxies to registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// For addresses with `https`.
    pub https: Option<String>,
    /// For addresses with `http`.
    pub http: Option<String>,
    /// Hosts that are reached without one, separated by commas.
    pub except: Option<String>,
}
