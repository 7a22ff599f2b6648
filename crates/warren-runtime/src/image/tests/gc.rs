use super::*;

async fn three(world: &World) -> [Held; 3] {
    let base = layer("base", b"0");
    for name in ["a", "b", "c"] {
        let layers = [base.clone(), layer(name, name.as_bytes())];
        world.registry.put(name, "1", &image(&layers, json!({}))).unwrap();
    }
    let mut held = Vec::new();
    for name in ["a:1", "b:1", "c:1"] {
        held.push(world.pull(name).await.unwrap());
    }
    held.try_into().unwrap()
}

#[tokio::test]
async fn what_is_held_or_in_use_stays() {
    let Some(world) = World::open() else { return };
    let [a, b, c] = three(&world).await;
    let (id_a, id_b) = (a.image.id, b.image.id);
    drop((b, c));
    let refused = world.images.remove(id_a, &none()).await;
    assert!(matches!(refused, Err(ImageError::InUse { .. })), "{refused:?}");
    let refused = world.images.remove(id_b, &only(id_b)).await;
    assert!(matches!(refused, Err(ImageError::InUse { .. })), "{refused:?}");
    let pruned = world.images.prune(Prune::Unused, &only(id_b)).await.unwrap();
    assert_eq!(pruned.images.len(), 1);
    assert_eq!(pruned.references, [world.name("c:1")]);
    assert!(pruned.bytes > 0);
    assert_eq!((world.count("layers"), world.count("records")), (3, 2));
    drop(a);
    let pruned = world.images.prune(Prune::Unused, &none()).await.unwrap();
    assert_eq!(pruned.images.len(), 2);
    assert_eq!((world.count("layers"), world.count("blobs/sha256")), (0, 0));
    assert_eq!(world.images.bytes(), 0);
}

#[tokio::test]
async fn an_image_goes_with_its_last_name() {
    let Some(world) = World::open() else { return };
    let [a, ..] = three(&world).await;
    let (name, second) = (world.name("a:1"), "mine:2".parse().unwrap());
    world.images.tag(&a, &second).await.unwrap();
    let id = a.image.id;
    drop(a);
    let removed = world.images.untag(&name, &none()).await.unwrap();
    assert_eq!((removed.images, removed.references), (vec![], vec![name.clone()]));
    assert!(world.images.find(&name).is_none());
    let removed = world.images.untag(&second, &only(id)).await.unwrap();
    assert_eq!(removed.images, []);
    let pruned = world.images.prune(Prune::Unnamed, &none()).await.unwrap();
    assert_eq!(pruned.images, [id]);
    let again = world.images.untag(&name, &none()).await;
    assert!(matches!(again, Err(ImageError::NotFound { .. })), "{again:?}");
}

#[tokio::test]
async fn over_the_limit_the_least_used_go_first() {
    let Some(mut world) = World::open() else { return };
    let held = three(&world).await;
    let [a, b, c] = held.map(|held| held.image.id);
    let most_bytes = Some(world.images.bytes() - 1);
    world.again(Settings { most_bytes, ..Settings::default() });
    // Touched by being found.
    for id in [b, a, c] {
        world.images.find_id(&id.hex()).unwrap();
    }
    let pruned = world.images.prune(Prune::OverLimit, &only(a)).await.unwrap();
    assert_eq!(pruned.images, [b]);
    let pruned = world.images.prune(Prune::OverLimit, &none()).await.unwrap();
    assert_eq!(pruned.images, []);
}

#[tokio::test]
async fn a_server_that_was_killed_leaves_whole_images_alone() {
    let Some(mut world) = World::open() else { return };
    let [a, b, _c] = three(&world).await.map(|held| held.image.id);
    let lost = world.trees(&world.images.find_id(&b.hex()).unwrap())[1].clone();
    let place = world.data.path().to_owned();
    // What a kill at some line can leave: half a layer, half a blob, a layer that no record names
    // yet, a record whose layer has gone already, a name without its image.
    fs::create_dir_all(place.join("tmp/1-1/tree")).unwrap();
    fs::write(place.join("partial").join(a.hex()), "half").unwrap();
    let orphan = place.join("layers").join(Digest::of(b"orphan").hex());
    fs::create_dir_all(orphan.join("tree")).unwrap();
    let about =
        json!({"diff_id": Digest::of(b"orphan").to_string(), "bytes": 1, "hides_all_below": false});
    fs::write(orphan.join("about.json"), about.to_string()).unwrap();
    fs::create_dir(place.join("layers").join(Digest::of(b"bare").hex())).unwrap();
    fs::remove_dir_all(lost.parent().unwrap()).unwrap();
    fs::write(place.join("names/0.json"), "{").unwrap();

    world.again(Settings::default());
    assert_eq!(world.images.list().len(), 2);
    assert!(world.images.find(&world.name("b:1")).is_none());
    let held = world.images.find(&world.name("a:1")).unwrap();
    assert_eq!(read(&world.trees(&held)[0], "base"), "0");
    assert_eq!((world.count("layers"), world.count("partial")), (3, 0));
    assert_eq!((world.count("records"), world.count("names")), (2, 2));
    // It can be had again.
    let held = world.pull("b:1").await.unwrap();
    assert_eq!(read(&world.trees(&held)[1], "b"), "b");
}
