//! Registries that go away, and images that are not what they should be.

use std::fs;

use serde_json::json;
use warren_test_registry::{Image, Layer, Proxy, Registry, Tree, digest};

use super::{image, registry, said};
use crate::harness::Home;

/// The names of all images that the server says it has.
#[track_caller]
pub(super) fn listed(home: &Home) -> Vec<String> {
    let list = said(home, &["image", "list", "--json"]);
    let images = list["images"].as_array().unwrap_or_else(|| panic!("{list}"));
    let names = images.iter().flat_map(|image| image["references"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Asks for an image that cannot be had; gives what is said to people.
#[track_caller]
pub(super) fn refused(home: &Home, reference: &str) -> String {
    let ended = home.warren(&["image", "pull", reference]);
    assert_ne!(ended.code(), 0, "{reference} was pulled: {}", ended.text());
    assert_eq!(listed(home), [""; 0], "half an image is to be seen");
    ended.errors()
}

#[track_caller]
pub(super) fn works(home: &Home, reference: &str) {
    let ended = home.warren(&["run", "--image", reference, "--", "/bin/cat", "/srv/middle"]);
    assert_eq!(ended.good().text(), "middle\n");
}

#[test]
fn a_registry_that_goes_away_in_the_middle_is_said_and_the_next_pull_succeeds() {
    let Some(mut registry) = registry() else { return };
    registry.put("team/tool", "1", &image(3_000_000)).unwrap();
    let proxy = Proxy::start(registry.address()).unwrap();
    let reference = format!("{}/team/tool:1", proxy.address());
    let home = Home::new();
    home.warren(&["list"]).good();
    for bytes in [0, 400, 3_000, 1_000_000, 3_500_000] {
        proxy.cut_after(bytes);
        let error = refused(&home, &reference);
        assert!(error.contains(proxy.address()), "after {bytes} bytes: {error}");
        proxy.heal();
    }
    registry.kill();
    let error = refused(&home, &reference);
    assert!(error.contains(proxy.address()), "{error}");
    registry.restart().unwrap();
    home.warren(&["image", "pull", &reference]).good();
    // What is here needs no registry.
    drop(registry);
    works(&home, &reference);
    home.warren(&["image", "rm", &reference]).good();
    assert_eq!(listed(&home), [""; 0]);
}

/// A registry with one image, and what it is called.
fn with_image(image: &Image) -> Option<(Registry, String)> {
    let registry = registry()?;
    registry.put("team/tool", "1", image).unwrap();
    let reference = format!("{}/team/tool:1", registry.address());
    Some((registry, reference))
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_makes_no_image() {
    let image = image(200_000);
    let Some((registry, reference)) = with_image(&image) else { return };
    for blob in [&image.layers[1].blob, &image.layers[2].blob, &image.config] {
        // What one attempt has fetched, the next does not ask for.
        let home = Home::new();
        let file = registry.file_of(&blob.digest);
        let middle = blob.bytes.len() / 2;
        let mut flipped = blob.bytes.clone();
        flipped[middle] ^= 1;
        fs::write(&file, flipped).unwrap();
        let error = refused(&home, &reference);
        assert!(error.contains(&blob.digest[7..19]), "{} in: {error}", blob.digest);
        fs::write(&file, &blob.bytes).unwrap();
    }
    let home = Home::new();
    let last = &image.layers[2].blob;
    fs::write(registry.file_of(&last.digest), &last.bytes[..1000]).unwrap();
    let error = refused(&home, &reference);
    assert!(error.contains("ended after 1000 of 20"), "{error}");
    // It was reached: that is not what is wrong.
    assert!(!error.contains("could not reach"), "{error}");
    fs::write(registry.file_of(&last.digest), &last.bytes).unwrap();
    works(&home, &reference);
}

#[test]
fn a_layer_that_is_another_than_the_image_says_makes_no_image() {
    let mut layers = image(1_000).layers;
    layers[1].diff_id = digest(b"something else");
    let Some((_registry, reference)) = with_image(&Image::new(layers, &json!({}))) else { return };
    let home = Home::new();
    let error = refused(&home, &reference);
    assert!(error.contains("where the configuration says sha256"), "{error}");
}

#[test]
fn a_layer_that_reaches_outside_is_refused() {
    let outside = std::env::temp_dir().join(format!("warren-e2e-outside-{}", std::process::id()));
    let far = format!("{}{}", "../".repeat(12), outside.display());
    let tricks = [
        Tree::default().file(&far, b"out"),
        Tree::default().symlink("srv/way", "/tmp").file("srv/way/x", b"x").hard_link("y", &far),
    ];
    for (number, trick) in tricks.into_iter().enumerate() {
        let mut layers = image(1_000).layers;
        layers.push(Layer::gzip(&trick.into_tar()));
        let image = Image::new(layers, &json!({}));
        let Some((_registry, reference)) = with_image(&image) else { return };
        let home = Home::new();
        refused(&home, &reference);
        assert!(!outside.exists(), "trick {number} wrote {}", outside.display());
    }
}
