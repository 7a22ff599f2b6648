//! Layers where they are meant to be: below an overlay mount.

use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::{is_root, listing, unpack_to};

/// An overlay mount, for as long as this lives.
pub(crate) struct Overlay {
    pub(crate) at: PathBuf,
}

impl Overlay {
    /// Mounts layers, the topmost first, read-only or below `upper` (with `work` beside it).
    pub(crate) fn mount(at: &Path, layers: &[&Path], upper: Option<(&Path, &Path)>) -> Self {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let below: Vec<String> = layers.iter().map(|it| text(it)).collect();
        let mut options = format!("lowerdir={}", below.join(":"));
        if let Some((upper, work)) = upper {
            options += &format!(",upperdir={},workdir={}", text(upper), text(work));
        }
        fs::create_dir_all(at).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("overlay", at, "overlay", flags, options.as_c_str()).unwrap();
        Self { at: at.to_owned() }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
        debug_assert!(unmounted.is_ok(), "{unmounted:?}");
    }
}

#[test]
fn unpacked_layers_are_stacked() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let layer = |name: &str, archive: Archive| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        unpack_to(&archive.end(), &path).unwrap();
        path
    };
    let base = Archive::default()
        .file("etc/kept", "1")
        .file("etc/gone", "1")
        .file("etc/changed", "1")
        .file("hidden/f", "1")
        .file("again/f", "1");
    let base = layer("base", base);
    let top = Archive::default()
        .file("etc/.wh.gone", "")
        .file("etc/changed", "2")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/g", "2")
        .file(".wh.again", "")
        .file("again/h", "2");
    let top = layer("top", top);
    // With one layer alone overlayfs wants an upper.
    let overlay = Overlay::mount(&place.path().join("merged"), &[&top, &base], None);
    let expected = [
        "again 755 directory",
        "again/h 644 2",
        "etc 755 directory",
        "etc/changed 644 2",
        "etc/kept 644 1",
        "hidden 755 directory",
        "hidden/g 644 2",
    ];
    assert_eq!(listing(&overlay.at), expected);
}
