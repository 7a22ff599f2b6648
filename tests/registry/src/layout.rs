//! Images as OCI layout directories.

use std::{fs, io, path::Path};

use serde_json::json;

use crate::image::Image;

/// Writes an image into a new layout directory, under a tag.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write_layout(image: &Image, tag: &str, directory: &Path) -> io::Result<()> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    for blob in image.blobs() {
        let name = blob.digest.strip_prefix("sha256:").unwrap_or(&blob.digest);
        fs::write(blobs.join(name), &blob.bytes)?;
    }
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let manifest = &image.manifest;
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": manifest.kind, "digest": manifest.digest, "size": manifest.bytes.len(),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }]});
    fs::write(directory.join("index.json"), index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_has_every_blob_and_a_tag() {
        let directory = tempfile::tempdir().unwrap();
        let image = Image::new(vec![crate::Layer::gzip(b"x")], &json!({}));
        write_layout(&image, "one", directory.path()).unwrap();
        let blobs = fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count();
        assert_eq!(blobs, 3);
        let index = fs::read_to_string(directory.path().join("index.json")).unwrap();
        assert!(index.contains("\"one\""), "{index}");
    }
}
