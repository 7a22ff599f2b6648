//! Layers that are small on their way and too much when they are here: by size, by number, by depth.

use serde_json::json;
use warren_test_registry::{Image, Layer, Tree};

use super::{image, images::refused, kept, registry};
use crate::harness::{Home, wait_until};

/// A layer on top of a good image is refused with these words, and leaves nothing, whether it is
/// pulled or read from a file.
#[track_caller]
fn check(settings: &[(&str, &str)], bombs: Vec<Layer>, words: &[&str]) {
    let Some(registry) = registry() else { return };
    let settings = [&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0")], settings].concat();
    let home = Home::with(&settings);
    home.warren(&["list"]).good();
    let before = kept(&home);
    let bomb = Image::new([image(1_000).layers, bombs].concat(), &json!({}));
    registry.put("team/bomb", "1", &bomb).unwrap();
    let pulled = refused(&home, &format!("{}/team/bomb:1", registry.address()));
    let layout = tempfile::tempdir().unwrap();
    warren_test_registry::write_layout(&bomb, "1", layout.path()).unwrap();
    let imported = home.warren(&["image", "import", layout.path().to_str().unwrap()]);
    assert_ne!(imported.code(), 0, "{}", imported.text());
    for error in [pulled, imported.errors()] {
        assert!(words.iter().all(|it| error.contains(it)), "expected {words:?}: {error}");
    }
    home.warren(&["image", "prune", "--all"]).good();
    wait_until("nothing of it is left", || kept(&home).difference(&before).next().is_none());
}

#[test]
fn a_layer_of_too_many_bytes_names_the_setting() {
    let bomb = Layer::gzip(&Tree::default().file("bomb", &vec![0; 48 << 20]).into_tar());
    let words = ["an image whose layers unpack to more bytes", "25165824", "`image_size`"];
    check(&[("WARREN_IMAGE_SIZE", "24MiB")], vec![bomb], &words);
}

#[test]
fn layers_of_too_many_entries_name_the_setting() {
    let files = |layer: usize| {
        let many = (0..300).fold(Tree::default(), |tree, number| {
            tree.file(&format!("many/{layer}-{number}"), b"")
        });
        Layer::gzip(&many.into_tar())
    };
    // Each is small enough, and both are not.
    let words = ["an image whose layers have more entries", "500", "`image_files`"];
    check(&[("WARREN_IMAGE_FILES", "500")], vec![files(1), files(2)], &words);
}

#[test]
fn a_layer_of_too_deep_directories_is_refused() {
    let deep = Tree::default().long_directory(&"d/".repeat(300)).into_tar();
    check(&[], vec![Layer::gzip(&deep)], &["more directories above each other", "at most 256"]);
}

#[test]
fn a_layer_of_too_long_a_name_is_refused() {
    let long = format!("{}/", "n".repeat(200)).repeat(25);
    let long = Tree::default().long_directory(&long).into_tar();
    check(&[], vec![Layer::gzip(&long)], &["name"]);
}

#[test]
fn a_layer_that_is_packed_in_itself_is_unpacked_once() {
    let inner = Layer::gzip(&vec![0; 8 << 20]);
    let nested = Layer::gzip(&inner.blob.bytes);
    check(&[], vec![nested], &["a layer of the image cannot be used"]);
}

#[test]
fn an_image_of_too_many_layers_is_refused() {
    let layer = |number: usize| {
        Layer::gzip(&Tree::default().file(&format!("srv/{number}"), b"x").into_tar())
    };
    check(&[], (0..256).map(layer).collect(), &["layers", "at most 256"]);
}
