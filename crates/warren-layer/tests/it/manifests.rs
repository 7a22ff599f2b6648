//! What a layer holds, noted down.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, UNIX_EPOCH};

use warren_layer::manifest::{ManifestError, Sources};
use warren_layer::{Digest, Kind, Manifest, Moment};

fn build(path: &std::path::Path) -> Manifest {
    Manifest::build(path, Sources::None, None).unwrap()
}

#[test]
fn every_change_is_found() {
    let place = tempfile::tempdir().unwrap();
    let layer = place.path().join("layer");
    fs::create_dir_all(layer.join("d")).unwrap();
    fs::write(layer.join("d/f"), "one").unwrap();
    fs::hard_link(layer.join("d/f"), layer.join("g")).unwrap();
    symlink("g", layer.join("l")).unwrap();
    let manifest = build(&layer);
    let entry = |path: &str| manifest.entries.get(path.as_bytes()).unwrap();
    assert_eq!(entry("d/f").digest, Some(Digest::of(b"one")));
    assert_eq!(
        (entry("g").size, entry("l").kind, entry("").kind),
        (3, Kind::Symlink, Kind::Directory)
    );
    assert_eq!(manifest.bytes(), 6);
    let noted = place.path().join("manifest");
    manifest.write(&noted).unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    let manifest = Manifest::read(&noted).unwrap();
    assert_eq!(manifest.verify(&layer).unwrap(), []);

    let check = |change: &dyn Fn(), expected: &[(&str, &str)]| {
        change();
        let found = manifest.verify(&layer).unwrap();
        let found: Vec<_> =
            found.iter().map(|it| (std::str::from_utf8(&it.path).unwrap(), it.what)).collect();
        assert_eq!(found, expected);
    };
    let time = |path: &str| {
        let time = UNIX_EPOCH + Duration::from_nanos(0);
        let (seconds, nanoseconds) = entry(path).modified;
        let time = time + Duration::new(seconds.unsigned_abs(), nanoseconds);
        File::open(layer.join(path))
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    };
    let content = [("d/f", "its content differs"), ("g", "its content differs")];
    check(
        &|| {
            fs::write(layer.join("g"), "two").unwrap();
            time("g")
        },
        &content,
    );
    check(
        &|| {
            fs::write(layer.join("g"), "one").unwrap();
            time("g")
        },
        &[],
    );
    let mode = |mode| fs::set_permissions(layer.join("d"), Permissions::from_mode(mode)).unwrap();
    check(&|| mode(0o700), &[("d", "its mode differs")]);
    check(
        &|| {
            mode(entry("d").mode);
            fs::remove_file(layer.join("l")).unwrap();
            time("")
        },
        &[("l", "it is missing")],
    );
    check(
        &|| {
            fs::write(layer.join("l"), "").unwrap();
            time("")
        },
        &[("l", "it is something else")],
    );
    check(
        &|| {
            fs::write(layer.join("d/new"), "").unwrap();
            time("d")
        },
        &[("l", "it is something else"), ("d/new", "it was not there")],
    );
}

#[test]
fn unchanged_files_are_not_read_again() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("f"), "one").unwrap();
    let later = Moment { seconds: Moment::now().seconds + 10, nanoseconds: 0 };
    let mut first = Manifest::build(place.path(), Sources::Own(later), None).unwrap();
    // Something that no reading would give.
    first.entries.get_mut(&b"f"[..]).unwrap().digest = Some(Digest::of(b"noted"));
    let second = Manifest::build(place.path(), Sources::Own(later), Some(&first)).unwrap();
    assert_eq!(second, first);
    // Changed so late that the stamp may not tell.
    let now = Moment { seconds: Moment::now().seconds - 10, nanoseconds: 0 };
    let third = Manifest::build(place.path(), Sources::Own(now), Some(&first)).unwrap();
    assert_eq!(third.entries.get(&b"f"[..]).unwrap().digest, Some(Digest::of(b"one")));
    fs::write(place.path().join("f"), "two").unwrap();
    let fourth = Manifest::build(place.path(), Sources::Own(later), Some(&first)).unwrap();
    assert_eq!(fourth.entries.get(&b"f"[..]).unwrap().digest, Some(Digest::of(b"two")));
}

#[test]
fn a_damaged_one_is_not_read() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("manifest");
    build(place.path()).write(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 2);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(Manifest::read(&path), Err(ManifestError::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Manifest::read(&path), Err(ManifestError::Io { .. })));
}

#[test]
fn a_hole_of_a_terabyte_costs_nothing() {
    use std::os::unix::fs::FileExt as _;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("large");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let digest = || build(place.path()).entries.get(b"large".as_slice()).unwrap().digest;
    let empty = digest();
    file.write_all_at(b"words", 1 << 39).unwrap();
    let words = digest();
    assert_eq!(digest(), words);
    file.write_all_at(b"word!", 1 << 39).unwrap();
    let other = digest();
    file.set_len(1 << 41).unwrap();
    let larger = digest();
    let all = std::collections::BTreeSet::from([empty, words, other, larger]);
    assert_eq!(all.len(), 4);
}
