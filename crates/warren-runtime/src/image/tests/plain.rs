use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::image::{MOUNT_POINTS, directory, make_once};

#[test]
fn a_directory_must_look_like_a_root() {
    let data = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: &str| {
        let error = directory(path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Path::new("relative"), "expected an absolute path");
    check(&data.path().join("gone"), "cannot open");
    check(data.path(), "expected a root filesystem");
    fs::create_dir(data.path().join("usr")).unwrap();
    let image = directory(data.path()).unwrap();
    assert_eq!(image.missing, MOUNT_POINTS.map(PathBuf::from));
}

#[test]
fn a_failed_make_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let failed = make_once(data.path(), "x", |_| Err(std::io::ErrorKind::StorageFull.into()));
    assert!(failed.is_err());
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    let place = make_once(data.path(), "x", |half| fs::write(half.join("f"), "1")).unwrap();
    make_once(data.path(), "x", |_| panic!("made twice")).unwrap();
    assert_eq!(fs::read_to_string(place.join("f")).unwrap(), "1");
}
