use futures::{StreamExt, stream};
use warren_core::images::{ExportFormat, ImportSource};

use super::*;

/// A store of its own, of another server as it were.
fn other() -> (tempfile::TempDir, ImageService) {
    let data = tempfile::tempdir().unwrap();
    let images = ImageService::open(data.path(), Settings::default()).unwrap();
    (data, images)
}

async fn two_layers(world: &World) -> Held {
    let layers = [layer("a", b"1"), layer("b", b"2")];
    world.registry.put("x", "y", &image(&layers, json!({"Cmd": ["/run"]}))).unwrap();
    world.pull("x:y").await.unwrap()
}

async fn archive(world: &World, held: &Held, format: ExportFormat) -> Vec<u8> {
    let mut pieces = world.images.export(held, None, format).await.unwrap();
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        archive.extend_from_slice(&piece.unwrap());
    }
    archive
}

fn stream_of(bytes: Vec<u8>) -> ImportSource {
    let pieces: Vec<_> = bytes.chunks(1000).map(|it| Ok(it.to_vec().into())).collect();
    ImportSource::Stream(stream::iter(pieces).boxed())
}

async fn import(
    images: &ImageService,
    source: ImportSource,
    name: Option<&str>,
) -> Result<Vec<Held>, ImageError> {
    let name = name.map(|name| name.parse().unwrap());
    images.import(source, name.as_ref(), &Progress::default()).await
}

#[tokio::test]
async fn what_is_pushed_is_what_was_pulled() {
    let Some(world) = World::open() else { return };
    let held = two_layers(&world).await;
    let target = world.name("team/copy:1");
    let digest = world.images.push(&held, &target, &Progress::default()).await.unwrap();
    assert_eq!(digest, world.images.store.record(held.image.id).unwrap().manifest);
    let (_data, images) = other();
    let pulled = pull(&images, &target).await.unwrap();
    assert_eq!(pulled.image.id, held.image.id);
    // Once more, when all is there.
    world.images.push(&held, &target, &Progress::default()).await.unwrap();
    let nowhere = "127.0.0.1:1/x:y".parse().unwrap();
    let error = world.images.push(&held, &nowhere, &Progress::default()).await.unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_archive_brings_an_image_to_another_server() {
    let Some(world) = World::open() else { return };
    let held = two_layers(&world).await;
    for format in [ExportFormat::Oci, ExportFormat::Docker] {
        let packed = archive(&world, &held, format).await;
        let (data, images) = other();
        let [came] = import(&images, stream_of(packed), None).await.unwrap().try_into().unwrap();
        assert_eq!(
            (came.image.id, &came.image.references),
            (held.image.id, &held.image.references)
        );
        assert_eq!(came.image.config.cmd, ["/run"]);
        let left = fs::read_dir(data.path().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "what was unpacked on the way goes");
    }
}

#[tokio::test]
async fn a_directory_and_an_old_archive_are_imported() {
    let Some(world) = World::open() else { return };
    let made = image(&[layer("a", b"1"), layer("b", b"2")], json!({"Cmd": ["/run"]}));
    let place = tempfile::tempdir().unwrap();
    warren_test_registry::write_layout(&made, "tag", place.path()).unwrap();
    let directory = ImportSource::Path(place.path().to_owned());
    let [came] =
        import(&world.images, directory, Some("mine:1")).await.unwrap().try_into().unwrap();
    assert_eq!(came.image.references[0].to_string(), "mine:1");
    assert_eq!(read(&world.trees(&came)[1], "b"), "2");

    // As older Dockers write it: plain archives, a layer that is only linked to, no index.
    let tar = Tree::default().file("f", b"x").into_tar();
    let diff_id = warren_test_registry::digest(&tar);
    let config = json!({"os": "linux", "rootfs": {"diff_ids": [diff_id, diff_id]}}).to_string();
    let list = json!([{"Config": "c.json", "RepoTags": ["old:1", "old:2"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let saved = Tree::default()
        .file("c.json", config.as_bytes())
        .file("one/layer.tar", &tar)
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("manifest.json", list.to_string().as_bytes())
        .into_tar();
    let file = place.path().join("saved.tar");
    fs::write(&file, saved).unwrap();
    let [came] =
        import(&world.images, ImportSource::Path(file), None).await.unwrap().try_into().unwrap();
    assert_eq!(came.image.references.len(), 2);
    let plan = world.images.store.plan(&came.image.id.to_string()).unwrap();
    assert_eq!(plan.layers.len(), 1, "the same layer is mounted once");
}

#[tokio::test]
async fn what_is_no_archive_of_images_is_refused() {
    let Some(world) = World::open() else { return };
    let refused = async |bytes: Vec<u8>, expected: &str| {
        let error = import(&world.images, stream_of(bytes), None).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.count("tmp"), 0);
    };
    refused(b"no archive".to_vec(), "tar archive").await;
    refused(Tree::default().file("f", b"").into_tar(), "neither index.json").await;
    let list = br#"[{"Config": "gone.json", "Layers": []}]"#;
    refused(Tree::default().file("manifest.json", list).into_tar(), "has no gone.json").await;
    let digest = Digest::of(b"right");
    let index =
        json!({"schemaVersion": 2, "manifests": [{"digest": digest.to_string(), "size": 5}]});
    let path = format!("blobs/sha256/{}", digest.hex());
    let lying = Tree::default()
        .file("index.json", index.to_string().as_bytes())
        .file(&path, b"wrong")
        .into_tar();
    refused(lying, "it has no sha256:").await;
}
