//! Manifests, indexes and configurations: the documents that an image is made of.
//!
//! They come from strangers: each is read up to a size, and what is used of it is checked.
//!
//! # Source
//!
//! OCI Image Format Specification 1.1; Docker Image Manifest V2, Schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warren_core::images::{Digest, ImageConfig, ImageError};

/// The largest manifest or index, in bytes.
pub(super) const MOST_MANIFEST: usize = 4 << 20;
/// The largest configuration, in bytes.
pub(super) const MOST_CONFIG: usize = 4 << 20;
/// The most layers of one image; overlayfs takes more, nobody has them.
pub(super) const MOST_LAYERS: usize = 256;
/// The most images that one index is searched through.
const MOST_IMAGES: usize = 1024;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for where a manifest is wanted.
pub(super) const MANIFEST_TYPES: [&str; 4] =
    [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// The manifest of an image that comes without one.
pub(super) fn manifest_of(config: &Blob, layers: &[Blob]) -> Vec<u8> {
    let written = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.written(),
        "layers": layers.iter().map(Blob::written).collect::<Vec<_>>(),
    });
    written.to_string().into_bytes()
}

/// Content by its digest and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
}

/// A manifest, or an index of several.
#[derive(Debug)]
pub(super) enum Manifest {
    /// One image.
    Image { media_type: String, config: Blob, layers: Vec<Blob> },
    /// Images for several platforms.
    Index(Vec<Listed>),
}

/// An image in an index.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) blob: Blob,
    pub(super) platform: Option<Platform>,
    /// The name it has in an archive.
    pub(super) name: Option<String>,
}

/// What an image runs on, in Go's words.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

impl Platform {
    /// This machine's.
    pub(super) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// A descriptor, as it is written.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenBlob {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    config: Option<WrittenBlob>,
    #[serde(default)]
    layers: Vec<WrittenBlob>,
    #[serde(default)]
    manifests: Vec<WrittenListed>,
}

#[derive(Deserialize)]
struct WrittenListed {
    #[serde(flatten)]
    blob: WrittenBlob,
    platform: Option<Platform>,
}

/// Where archives write an image's name.
pub(super) const NAME_OF_IMAGE: &str = "io.containerd.image.name";
/// Where OCI's layout has its tag, or its whole name.
pub(super) const NAME_OF_REFERENCE: &str = "org.opencontainers.image.ref.name";

impl Blob {
    pub(super) fn written(&self) -> WrittenBlob {
        WrittenBlob {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: self.size,
            annotations: BTreeMap::new(),
        }
    }
}

impl TryFrom<WrittenBlob> for Blob {
    type Error = ImageError;

    fn try_from(written: WrittenBlob) -> Result<Self, ImageError> {
        let digest = written.digest.parse();
        let digest = digest.map_err(|error| unusable(&format!("a digest, {error}")))?;
        Ok(Self { digest, size: written.size, media_type: written.media_type })
    }
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let written: WrittenManifest =
            serde_json::from_slice(bytes).map_err(|error| unusable(&error.to_string()))?;
        if written.schema_version != 2 {
            let version = written.schema_version;
            return Err(unusable(&format!("it is of version {version}, expected 2")));
        }
        if let Some(config) = written.config {
            if written.layers.len() > MOST_LAYERS {
                let what = format!("an image of {} layers", written.layers.len());
                return Err(ImageError::TooLarge { what, most: MOST_LAYERS as u64 });
            }
            let layers: Vec<Blob> =
                written.layers.into_iter().map(Blob::try_from).collect::<Result<_, _>>()?;
            if let Some(odd) = layers.iter().find(|it| !is_layer(&it.media_type)) {
                let kind = super::registry::plain(&odd.media_type);
                return Err(unusable(&format!("a layer is `{kind}`, expected a tar archive")));
            }
            let media_type = written.media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned());
            return Ok(Self::Image { media_type, config: config.try_into()?, layers });
        }
        if written.manifests.is_empty() {
            return Err(unusable("it names no image"));
        }
        let listed = |written: WrittenListed| {
            let notes = &written.blob.annotations;
            // Of the second, many programs write the tag alone.
            let whole = notes.get(NAME_OF_REFERENCE).filter(|it| it.contains(['/', ':']));
            let name = notes.get(NAME_OF_IMAGE).or(whole).cloned();
            Ok(Listed { platform: written.platform, name, blob: written.blob.try_into()? })
        };
        let images = written.manifests.into_iter().take(MOST_IMAGES).map(listed);
        Ok(Self::Index(images.collect::<Result<_, ImageError>>()?))
    }
}

/// The image of an index that runs here.
pub(super) fn select(listed: &[Listed]) -> Result<&Blob, ImageError> {
    let here = Platform::here();
    let fits = |it: &&Listed| it.platform.as_ref() == Some(&here);
    if let Some(found) = listed.iter().find(fits) {
        return Ok(&found.blob);
    }
    // One without a platform says itself what it is for.
    if let [only] = listed
        && only.platform.is_none()
    {
        return Ok(&only.blob);
    }
    let there: Vec<_> =
        listed.iter().filter_map(|it| it.platform.as_ref()).map(Platform::to_string).collect();
    let there = super::registry::plain(&there.join(", "));
    Err(unusable(&format!("it is for {there}, expected {here}")))
}

fn is_layer(media_type: &str) -> bool {
    // Layers that may not be passed on are fetched from somewhere else altogether.
    media_type.is_empty()
        || (media_type.contains(".tar")
            && !media_type.contains("nondistributable")
            && !media_type.contains("foreign")
            && !media_type.contains("encrypted"))
}

fn unusable(reason: &str) -> ImageError {
    ImageError::unusable("the image's manifest", reason)
}

/// What is used of an image's configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) platform: Platform,
    pub(super) created: Option<String>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) config: ImageConfig,
}

#[derive(Deserialize)]
struct WrittenConfiguration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    created: Option<String>,
    config: Option<WrittenConfig>,
    rootfs: WrittenRoot,
}

#[derive(Deserialize)]
struct WrittenRoot {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct WrittenConfig {
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

impl Configuration {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let unusable = |reason: &str| ImageError::unusable("the image's configuration", reason);
        let written: WrittenConfiguration =
            serde_json::from_slice(bytes).map_err(|error| unusable(&error.to_string()))?;
        let platform = Platform { os: written.os, architecture: written.architecture };
        let here = Platform::here();
        // Some programs leave it out.
        if !platform.architecture.is_empty() && platform != here {
            let platform = super::registry::plain(&platform.to_string());
            return Err(unusable(&format!("it is for {platform}, expected {here}")));
        }
        let diff_ids = written.rootfs.diff_ids.iter().map(|text| text.parse());
        let diff_ids: Result<Vec<Digest>, _> = diff_ids.collect();
        Ok(Self {
            platform: here,
            created: written.created.map(|it| super::registry::plain(&it)),
            diff_ids: diff_ids.map_err(|error| unusable(&format!("a layer's id, {error}")))?,
            config: written.config.unwrap_or_default().into(),
        })
    }
}

impl From<WrittenConfig> for ImageConfig {
    fn from(written: WrittenConfig) -> Self {
        let filled = |text: Option<String>| text.filter(|it| !it.is_empty());
        let env = written.env.unwrap_or_default().into_iter().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        });
        let workdir = filled(written.working_dir).map(|path| match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        });
        Self {
            env: env.collect(),
            user: filled(written.user),
            workdir,
            entrypoint: written.entrypoint.unwrap_or_default(),
            cmd: written.cmd.unwrap_or_default(),
            labels: written.labels.unwrap_or_default(),
            ports: written.exposed_ports.unwrap_or_default().into_keys().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(kind: &str) -> String {
        let digest = Digest::of(kind.as_bytes());
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":3}}"#)
    }

    fn image(layers: &[String]) -> String {
        let config = blob(OCI_CONFIG);
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","))
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, ImageError>, expected: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_manifest_is_an_image_or_an_index() {
        let gzip = format!("{OCI_LAYER}+gzip");
        let read = Manifest::read(image(&[blob(&gzip)]).as_bytes()).unwrap();
        assert!(matches!(read, Manifest::Image { layers, .. } if layers[0].media_type == gzip));
        let wasm = blob("application/wasm");
        refused(Manifest::read(image(&[wasm]).as_bytes()), "expected a tar archive");
        refused(Manifest::read(b"{}"), "expected 2");
        refused(Manifest::read(br#"{"schemaVersion":2}"#), "names no image");
        refused(Manifest::read(b"<html>"), "the image's manifest");
        let many = vec![blob(OCI_LAYER); MOST_LAYERS + 1];
        refused(Manifest::read(image(&many).as_bytes()), "at most 256");
    }

    #[test]
    fn an_index_is_searched_for_this_machine() {
        let listed = |platform: Option<(&str, &str)>| Listed {
            blob: Blob { digest: Digest::of(b"x"), size: 1, media_type: String::new() },
            platform: platform.map(|(os, it)| Platform { os: os.into(), architecture: it.into() }),
            name: None,
        };
        let here = Platform::here();
        let ours = listed(Some(("linux", &here.architecture)));
        let others = [listed(Some(("linux", "s390x"))), listed(Some(("unknown", "unknown")))];
        assert!(select(&[listed(None)]).is_ok());
        refused(select(&others), "it is for linux/s390x, unknown/unknown, expected linux/");
        let [a, b] = others;
        assert!(select(&[a, b, ours]).is_ok());
    }

    #[test]
    fn a_configuration_may_leave_everything_out() {
        let read = Configuration::read(br#"{"rootfs":{}}"#).unwrap();
        assert_eq!(read.config, ImageConfig::default());
        let text = r#"{"os":"linux","architecture":"s390x","rootfs":{"diff_ids":[]}}"#;
        refused(Configuration::read(text.as_bytes()), "it is for linux/s390x");
        let text = r#"{"rootfs":{"diff_ids":["sha256:1"]}}"#;
        refused(Configuration::read(text.as_bytes()), "64 hexadecimal digits");
        let text = r#"{"config":{"Env":["A=b=c","=x","y"],"WorkingDir":"app","User":"",
            "Entrypoint":null,"Cmd":["sh"],"ExposedPorts":{"80/tcp":{}}},"rootfs":{"diff_ids":[]}}"#;
        let config = Configuration::read(text.as_bytes()).unwrap().config;
        assert_eq!(config.env, BTreeMap::from([("A".to_owned(), "b=c".to_owned())]));
        assert_eq!((config.workdir.as_deref(), config.user.as_deref()), (Some("/app"), None));
        assert_eq!(
            (config.command(), config.ports),
            (vec!["sh".to_owned()], vec!["80/tcp".into()])
        );
    }
}
