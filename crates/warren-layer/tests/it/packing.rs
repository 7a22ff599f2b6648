//! Layers as archives, and back.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use warren_layer::manifest::Sources;
use warren_layer::pack::{Options, PackError, Packed, pack};
use warren_layer::unpack::Compression;
use warren_layer::{Digest, Manifest};

use crate::copying::mutate;
use crate::{is_root, listing, options, unpack_to};

fn packing(compression: Compression) -> Options {
    Options { compression, marks: options().marks, ..Options::default() }
}

fn pack_of(directory: &Path, options: &Options) -> (Vec<u8>, Packed) {
    let mut archive = Vec::new();
    let packed = pack(directory, &mut archive, options).unwrap();
    assert_eq!(
        (packed.digest, packed.compressed_bytes),
        (Digest::of(&archive), archive.len() as u64)
    );
    (archive, packed)
}

/// Packs and unpacks; the outcome is the same.
#[track_caller]
fn round_trip(directory: &Path, options: &Options) -> Packed {
    let (archive, packed) = pack_of(directory, options);
    let place = tempfile::tempdir().unwrap();
    let unpacked = unpack_to(&archive, place.path()).unwrap();
    assert_eq!((unpacked.digest, unpacked.diff_id), (packed.digest, packed.diff_id));
    assert_eq!((unpacked.bytes, unpacked.counts.entries), (packed.bytes, packed.entries));
    let manifest = Manifest::build(directory, Sources::None, None).unwrap();
    assert_eq!(manifest.verify(place.path()).unwrap(), []);
    packed
}

fn example(root: &Path) {
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/f"), "content").unwrap();
    fs::hard_link(root.join("d/f"), root.join("g")).unwrap();
    symlink("t".repeat(150), root.join("l")).unwrap();
    let long = format!("{}/{}", "n".repeat(99), "m".repeat(200));
    fs::create_dir(root.join("n".repeat(99))).unwrap();
    fs::write(root.join(&long), "x").unwrap();
    for (name, seconds) in [("old", -5), ("first", 0), ("new", 1 << 34)] {
        fs::write(root.join(name), vec![7; 300_000]).unwrap();
        let offset = Duration::from_secs(i64::unsigned_abs(seconds));
        let time = if seconds < 0 { UNIX_EPOCH - offset } else { UNIX_EPOCH + offset };
        let file = File::open(root.join(name)).unwrap();
        file.set_times(FileTimes::new().set_modified(time + Duration::from_nanos(1500))).unwrap();
    }
    let holes = File::create(root.join("holes")).unwrap();
    for index in 0..40 {
        holes.write_all_at(b"data", index * 1_000_000 + 17).unwrap();
    }
    holes.set_len(64 << 20).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    File::create(root.join("hole")).unwrap().set_len(64 << 20).unwrap();
    if is_root() {
        let directory = File::open(root.join("d")).unwrap();
        warren_layer::marks::make_opaque(&directory, options().marks).unwrap();
        warren_layer::marks::make_whiteout(&directory, b"gone").unwrap();
        // As it is when it comes back.
        let gone = root.join("d/gone");
        let path = gone.to_str().unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0);
        rustix::fs::chmod(path, mode).unwrap();
        std::os::unix::fs::chown(root.join("d/f"), Some(70_000), Some(3_000_000)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("new"), "user.note", b"=\0\n", flags).unwrap();
    }
}

#[test]
fn a_layer_comes_out_as_it_went_in() {
    let place = tempfile::tempdir().unwrap();
    example(place.path());
    let forms = [Compression::None, Compression::Gzip, Compression::Zstd];
    for compression in forms {
        let place = tempfile::tempdir().unwrap();
        example(place.path());
        // Times of whiteouts are not in an archive.
        drop(fs::remove_file(place.path().join("d/gone")));
        let packed = round_trip(place.path(), &packing(compression));
        assert!(packed.bytes < 4 << 20, "holes are packed: {packed:?}");
        assert_eq!(packed.skipped, 0);
    }
}

#[test]
fn whiteouts_are_named_as_images_have_them() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    example(place.path());
    let (archive, _) = pack_of(place.path(), &packing(Compression::None));
    let mut archive = tar::Archive::new(&*archive);
    let names = archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().into_owned());
    let names: Vec<String> = names.map(|it| it.to_str().unwrap().to_owned()).collect();
    let expected = ["./", "d/", "d/.wh..wh..opq", "d/e/", "d/f", "d/.wh.gone", "empty"];
    assert_eq!(names.get(..7).unwrap(), expected);
    let back = tempfile::tempdir().unwrap();
    unpack_to(&pack_of(place.path(), &packing(Compression::Zstd)).0, back.path()).unwrap();
    let small = |path: &Path| -> Vec<String> {
        listing(path).into_iter().filter(|it| it.starts_with("d")).collect()
    };
    assert_eq!(small(back.path()), small(place.path()));
}

#[test]
fn other_programs_read_what_is_packed() {
    let place = tempfile::tempdir().unwrap();
    example(place.path());
    drop(fs::remove_file(place.path().join("d/gone")));
    let (archive, _) = pack_of(place.path(), &packing(Compression::Gzip));
    let back = tempfile::tempdir().unwrap();
    let path = back.path().join("layer.tar.gz");
    fs::write(&path, archive).unwrap();
    fs::create_dir(back.path().join("out")).unwrap();
    gnu_untar(&back.path().join("out"), &path);
    for name in ["d/f", "g", "holes", "hole", "old"] {
        let read = |root: &Path| Digest::of(&fs::read(root.join(name)).unwrap());
        let is_large = name.starts_with("hole");
        let size = |root: &Path| fs::metadata(root.join(name)).unwrap().len();
        assert_eq!(size(&back.path().join("out")), size(place.path()), "{name}");
        if !is_large {
            assert_eq!(read(&back.path().join("out")), read(place.path()), "{name}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
fn gnu_untar(directory: &Path, archive: &Path) {
    let mut command = std::process::Command::new("tar");
    command.args(["--extract", "--gzip", "--no-same-owner", "--file"]).arg(archive);
    let output = command.current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_same_layer_gives_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (place.path().join("one"), place.path().join("two"));
    fs::create_dir(&one).unwrap();
    for name in ["b", "a", "c"] {
        fs::write(one.join(name), name).unwrap();
    }
    warren_layer::copy::copy(&one, &two, None).unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = packing(compression);
        assert_eq!(pack_of(&one, &options).0, pack_of(&two, &options).0);
    }
}

#[test]
fn identity_is_left_out_and_limits_hold() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("etc")).unwrap();
    for name in ["etc/hostname", "etc/passwd", ".wh.odd"] {
        fs::write(place.path().join(name), "x").unwrap();
    }
    let options = packing(Compression::None).without_identity();
    let (archive, packed) = pack_of(place.path(), &options);
    assert_eq!((packed.entries, packed.skipped), (3, 1));
    let back = tempfile::tempdir().unwrap();
    unpack_to(&archive, back.path()).unwrap();
    assert_eq!(listing(back.path()), ["etc 755 directory", "etc/passwd 644 x"]);
    let options = Options { most_bytes: 1024, ..options };
    let error = pack(place.path(), Vec::new(), &options).unwrap_err();
    assert!(matches!(error, PackError::TooMuch(1024)), "{error}");
}

#[test]
fn a_target_that_is_full_is_named() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("f"), vec![1; 20 << 20]).unwrap();
    let error = pack(place.path(), Full, &packing(Compression::None)).unwrap_err();
    let PackError::Write(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn redirects_are_refused() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("d")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(place.path().join("d"), "trusted.overlay.redirect", b"/x", flags).unwrap();
    let error = pack(place.path(), Vec::new(), &packing(Compression::None)).unwrap_err();
    assert!(error.to_string().contains("'d/' takes its content"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_there_is_comes_out_as_it_went_in(
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 0..40),
        form in 0..3_usize,
    ) {
        let place = tempfile::tempdir().unwrap();
        steps.into_iter().for_each(|step| mutate(place.path(), step));
        let forms = [Compression::None, Compression::Gzip, Compression::Zstd];
        round_trip(place.path(), &packing(forms[form]));
    }
}
