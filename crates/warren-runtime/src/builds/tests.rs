use std::os::unix::fs::symlink;

use futures::{TryStreamExt as _, stream};
use warren_archive::Packer;

use super::*;

/// An archive of a tree that `fill` makes.
fn archive(fill: impl FnOnce(&Path)) -> Contents {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let mut packer = Packer::directory(fs::File::open(directory.path()).unwrap().into());
    let mut bytes = Vec::new();
    while packer.read(&mut bytes, 1 << 16).unwrap() {}
    of_bytes(bytes)
}

fn of_bytes(bytes: Vec<u8>) -> Contents {
    let pieces: Vec<_> = bytes.chunks(1000).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
    stream::iter(pieces).boxed()
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("src/deep")).unwrap();
    fs::write(root.join("a.txt"), "a").unwrap();
    fs::write(root.join("b.txt"), "bb").unwrap();
    fs::write(root.join("src/main.rs"), "main").unwrap();
    fs::write(root.join("src/deep/x.o"), "x").unwrap();
    symlink("/etc", root.join("out")).unwrap();
}

fn pick(sources: &[&str]) -> Pick {
    Pick { sources: sources.iter().map(|&it| it.to_owned()).collect(), ..Pick::default() }
}

async fn trees() -> (tempfile::TempDir, BuildTrees) {
    let data = tempfile::tempdir().unwrap();
    let trees = BuildTrees::open(data.path()).unwrap();
    trees.take("t", archive(fill), 1 << 20).await.unwrap();
    (data, trees)
}

/// The names and contents in an archive.
async fn unpacked(contents: Contents) -> Vec<(String, String)> {
    let bytes = contents.try_collect::<Vec<_>>().await.unwrap().concat();
    let mut found = Vec::new();
    for entry in tar::Archive::new(&*bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        io::Read::read_to_string(&mut entry, &mut text).unwrap();
        found.push((name, text));
    }
    found
}

async fn names(trees: &BuildTrees, pick: &Pick) -> Vec<String> {
    let packed = trees.pack("t", pick, &Place::default()).await.unwrap();
    let names = unpacked(packed).await.into_iter().map(|(name, _)| name);
    names.map(|name| name.trim_end_matches('/').to_owned()).collect()
}

#[tokio::test]
async fn sources_are_found_as_docker_finds_them() {
    let (_data, trees) = trees().await;
    assert_eq!(names(&trees, &pick(&["*.txt"])).await, ["a.txt", "b.txt"]);
    assert_eq!(names(&trees, &pick(&["/src/"])).await, ["deep", "deep/x.o", "main.rs"]);
    assert_eq!(names(&trees, &pick(&["src/deep", "a.txt"])).await, ["a.txt", "x.o"]);
    let most = Pick { exclude: vec!["**/*.o".into(), "out".into()], ..pick(&["."]) };
    assert_eq!(names(&trees, &most).await, ["a.txt", "b.txt", "src", "src/deep", "src/main.rs"]);
    for missing in ["nothing", "*.md", "out/passwd", "../t/a.txt/x"] {
        let error = trees.inspect("t", &pick(&[missing])).await.unwrap_err();
        assert!(matches!(error, FilesError::NoSource { .. }), "{missing}: {error}");
    }
    let place = Place { name: Some("new".into()), mode: Some(0o600) };
    let single = trees.pack("t", &pick(&["b.txt"]), &place).await.unwrap();
    assert_eq!(unpacked(single).await, [("new".to_owned(), "bb".to_owned())]);
    let picked = trees.inspect("t", &pick(&["b.txt"])).await.unwrap();
    assert_eq!((picked.single.as_deref(), picked.entries), (Some("b.txt"), 1));
    assert_eq!(trees.inspect("t", &pick(&["src"])).await.unwrap().single, None);
}

#[tokio::test]
async fn a_digest_is_of_names_modes_and_contents_alone() {
    let (_data, trees) = trees().await;
    let before = trees.inspect("t", &pick(&["."])).await.unwrap().digest;
    let again = |change: fn(&Path)| {
        archive(move |root| {
            fill(root);
            change(root);
        })
    };
    trees.take("t", again(|_| {}), 1 << 20).await.unwrap();
    assert_eq!(trees.inspect("t", &pick(&["."])).await.unwrap().digest, before);
    let changes: [fn(&Path); 4] = [
        |root| fs::write(root.join("a.txt"), "b").unwrap(),
        |root| fs::rename(root.join("a.txt"), root.join("c.txt")).unwrap(),
        |root| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(root.join("a.txt"), mode).unwrap();
        },
        |root| {
            fs::remove_file(root.join("out")).unwrap();
            symlink("/usr", root.join("out")).unwrap();
        },
    ];
    for change in changes {
        trees.take("t", again(change), 1 << 20).await.unwrap();
        assert_ne!(trees.inspect("t", &pick(&["."])).await.unwrap().digest, before);
    }
}

#[tokio::test]
async fn archives_are_told_from_files() {
    let (_data, trees) = trees().await;
    let inner = archive(fill).try_collect::<Vec<_>>().await.unwrap().concat();
    trees
        .take(
            "t",
            archive(|root| {
                fs::write(root.join("in.tar"), &inner).unwrap();
                fs::write(root.join("not.tar"), "no archive").unwrap();
            }),
            1 << 20,
        )
        .await
        .unwrap();
    let add = Pick { unpack: true, ..pick(&["*.tar"]) };
    let picked = trees.inspect("t", &add).await.unwrap();
    assert_eq!((picked.archives.as_slice(), picked.entries), (&["in.tar".to_owned()][..], 1));
    let bytes = trees.read("t", "in.tar").await.unwrap();
    assert_eq!(bytes.try_collect::<Vec<_>>().await.unwrap().concat(), inner);
}

#[tokio::test]
async fn what_is_refused_or_breaks_off_leaves_nothing() {
    let (data, trees) = trees().await;
    let left = || fs::read_dir(data.path().join("builds")).unwrap().count();
    let before = left();
    let big = archive(|root| fs::write(root.join("big"), vec![0; 5000]).unwrap());
    let error = trees.take("u", big, 4000).await.unwrap_err();
    assert!(error.to_string().contains("more than 4000 bytes"), "{error}");
    let error = trees.take("u", of_bytes(b"no archive at all".to_vec()), 99).await.unwrap_err();
    assert!(matches!(error, FilesError::Refused { .. }), "{error}");
    let broken = stream::iter([Ok(Bytes::from_static(&[0; 512])), Err("gone".into())]).boxed();
    let error = trees.take("u", broken, 99).await.unwrap_err();
    assert!(matches!(error, FilesError::Broken(_)), "{error}");
    assert!(!trees.has("u").await);
    assert_eq!(left(), before);
    for bad in ["", "..", "a/b", "new-1", "empty"] {
        assert!(trees.take(bad, archive(fill), 1 << 20).await.is_err(), "{bad}");
    }
    // Taken in again it replaces what was there.
    trees.take("t", archive(|root| fs::write(root.join("z"), "z").unwrap()), 99).await.unwrap();
    assert_eq!(names(&trees, &pick(&["."])).await, ["z"]);
    fs::create_dir(data.path().join("builds/new-9")).unwrap();
    BuildTrees::open(data.path()).unwrap();
    assert_eq!(left(), before);
    trees.prune(Duration::ZERO).await.unwrap();
    assert!(!trees.has("t").await);
}
