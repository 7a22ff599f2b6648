//! What goes wrong while images are fetched and files are saved: registries that go away, blobs that
//! are not what they should be, disks that are full, and servers that are killed.
//!
//! Whatever happens, there is the whole of a thing or nothing of it; the error says what to do, and
//! the same request succeeds once the cause is gone.

mod bombs;
mod builds;
mod collected;
mod disk;
mod images;
mod killed;
mod volumes;

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use warren_test_registry::{Image, Layer, Tree};

use crate::{harness::Home, images::small_root, pulled::registry};

/// An image with a shell and two layers more, of which the second has so many bytes of noise.
fn image(noise: usize) -> Image {
    let base = Tree::of(small_root().path()).expect("a small root").into_tar();
    let middle = Tree::default().directory("srv/").file("srv/middle", b"middle\n").into_tar();
    let top = Tree::default().file("srv/noise", &bytes(noise)).into_tar();
    let layers = vec![Layer::gzip(&base), Layer::gzip(&middle), Layer::plain(top)];
    Image::new(layers, &json!({"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]}))
}

/// Bytes that no compression makes smaller, the same every time.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(count).collect()
}

/// A number below `limit` that nobody can foresee.
fn random(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// All files below what the server keeps for sandboxes, but for the databases and their like.
fn kept(home: &Home) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for name in ["images", "snapshots", "volumes", "templates", "builds", "stopped", "trash"] {
        for storage in [home.data(), home.data().join("pool")] {
            walk(&storage.join(name), &mut found);
        }
    }
    found
}

fn walk(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            walk(&path, found);
        }
        found.insert(path);
    }
}

/// What the command line prints as JSON.
#[track_caller]
fn said(home: &Home, arguments: &[&str]) -> Value {
    let text = home.warren(arguments).good().text();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}
