//! Blobs, layers, configurations and manifests of OCI images.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// `sha256:` and the hex digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Bytes of a registry, with what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Their media type.
    pub kind: String,
    /// The digest that names them; it is the right one unless a test made it wrong.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(kind: &str, bytes: Vec<u8>) -> Self {
        Self { kind: kind.to_owned(), digest: digest(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A layer: a tar archive, perhaps compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What the registry has.
    pub blob: Blob,
    /// The digest of the archive itself.
    pub diff_id: String,
}

impl Layer {
    /// A compressed archive.
    #[must_use]
    pub fn gzip(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        drop(encoder.write_all(tar));
        let bytes = encoder.finish().unwrap_or_default();
        let blob = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", bytes);
        Self { blob, diff_id: digest(tar) }
    }

    /// The archive as it is.
    #[must_use]
    pub fn plain(tar: Vec<u8>) -> Self {
        let diff_id = digest(&tar);
        Self { blob: Blob::new("application/vnd.oci.image.layer.v1.tar", tar), diff_id }
    }
}

/// An image for this machine's processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// What commands in it get to know.
    pub config: Blob,
    /// What a name in a registry leads to.
    pub manifest: Blob,
}

impl Image {
    /// An image of these layers; `config` is what is under `config` in an image's configuration,
    /// such as `{"Env": ["A=1"], "Cmd": ["/bin/sh"]}`.
    #[must_use]
    pub fn new(layers: Vec<Layer>, config: &Value) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let history: Vec<_> = layers.iter().map(|_| json!({"created_by": "by hand"})).collect();
        let config = json!({
            "history": history,
            "architecture": architecture(), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Blob::new(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(),
            "layers": layers.iter().map(|layer| layer.blob.descriptor()).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Self { layers, config, manifest }
    }

    /// Everything that it is made of, the manifest last.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        let layers = self.layers.iter().map(|layer| &layer.blob);
        layers.chain([&self.config, &self.manifest])
    }
}

/// This machine's processor, as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_named_by_both_its_digests() {
        let layer = Layer::gzip(b"archive");
        assert_eq!(layer.diff_id, digest(b"archive"));
        assert_eq!(layer.blob.digest, digest(&layer.blob.bytes));
        assert_ne!(layer.diff_id, layer.blob.digest);
        let plain = Layer::plain(b"archive".to_vec());
        assert_eq!(plain.diff_id, plain.blob.digest);
    }

    #[test]
    fn the_digest_is_the_well_known_one() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }

    #[test]
    fn a_manifest_names_what_the_image_is_made_of() {
        let image = Image::new(vec![Layer::gzip(b"a"), Layer::plain(b"b".to_vec())], &json!({}));
        let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(manifest["config"]["digest"], image.config.digest.as_str());
        assert_eq!(manifest["layers"][1]["size"], 1);
        assert_eq!(image.blobs().count(), 4);
    }
}
