use super::*;

#[tokio::test]
async fn an_image_is_pulled_once_and_shares_layers() {
    let Some(world) = World::open() else { return };
    let base = layer("base", b"1");
    let config = json!({"Env": ["A=1"], "User": "7:8", "WorkingDir": "/w", "Cmd": ["/run", "x"]});
    world.registry.put("team/a", "1", &image(&[base.clone(), layer("a", b"2")], config)).unwrap();
    let plain = Layer::plain(Tree::default().file("b", b"3").into_tar());
    world.registry.put("team/b", "1", &image(&[base, plain], json!({}))).unwrap();

    let a = world.pull("team/a:1").await.unwrap();
    assert_eq!(a.image.references, [world.name("team/a:1")]);
    assert_eq!(a.image.config.user.as_deref(), Some("7:8"));
    assert_eq!(a.image.config.command(), ["/run", "x"]);
    let trees = world.trees(&a);
    assert_eq!((read(&trees[0], "base"), read(&trees[1], "a")), ("1".into(), "2".into()));
    let plan = world.images.store.plan(&a.image.id.to_string()).unwrap();
    assert_eq!(plan.layers.len(), 2);
    assert_eq!(plan.missing.len(), 4, "{plan:?}");

    let b = world.pull("team/b:1").await.unwrap();
    assert_eq!(world.trees(&b)[0], trees[0]);
    assert_eq!(world.count("layers"), 3);
    assert_eq!((world.count("partial"), world.count("tmp")), (0, 0));
    // By a digest the image is found without asking anybody.
    let exact =
        world.name("team/a:1").with_digest(world.images.store.record(a.image.id).unwrap().manifest);
    assert_eq!(world.images.find(&exact).unwrap().image.id, a.image.id);
    assert_eq!(world.images.find_id(&a.image.id.hex()[..8]).unwrap().image.id, a.image.id);
}

#[tokio::test]
async fn a_tag_that_moved_is_followed_and_what_it_meant_stays() {
    let Some(world) = World::open() else { return };
    world.registry.put("x", "y", &image(&[layer("f", b"1")], json!({}))).unwrap();
    let first = world.pull("x:y").await.unwrap();
    world.registry.put("x", "y", &image(&[layer("f", b"2")], json!({}))).unwrap();
    let second = world.pull("x:y").await.unwrap();
    assert_ne!(first.image.id, second.image.id);
    assert_eq!(world.images.find(&world.name("x:y")).unwrap().image.id, second.image.id);
    let first = world.images.find_id(&first.image.id.hex()).unwrap();
    assert_eq!(first.image.references, []);
}

#[tokio::test]
async fn of_an_index_this_machines_image_is_taken() {
    let Some(world) = World::open() else { return };
    let ours = image(&[layer("ours", b"1")], json!({}));
    world.registry.put("multi", "ours", &ours).unwrap();
    let platform = |name: &str, of: &Blob| {
        json!({"mediaType": of.kind, "digest": of.digest, "size": of.bytes.len(),
            "platform": {"os": "linux", "architecture": name}})
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = |names: [&str; 2]| {
        let listed: Vec<_> = names.iter().map(|name| platform(name, &ours.manifest)).collect();
        let text = json!({"schemaVersion": 2, "mediaType": kind, "manifests": listed}).to_string();
        let digest = warren_test_registry::digest(text.as_bytes());
        let manifest = Blob { kind: kind.into(), digest, bytes: text.into_bytes() };
        Image { manifest, ..ours.clone() }
    };
    let here = super::super::document::Platform::here().architecture;
    world.registry.put("multi", "1", &index(["s390x", &here])).unwrap();
    world.registry.put("multi", "2", &index(["s390x", "ppc64le"])).unwrap();
    let held = world.pull("multi:1").await.unwrap();
    assert_eq!(read(&world.trees(&held)[0], "ours"), "1");
    let error = world.pull("multi:2").await.unwrap_err().to_string();
    assert!(error.contains("it is for linux/s390x, linux/ppc64le"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_broke_off_goes_on_where_it_stopped() {
    let Some(world) = World::open() else { return };
    let noise: Vec<u8> =
        (0..3_000_000_u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    world.registry.put("x", "y", &image(&[layer("noise", &noise)], json!({}))).unwrap();
    let proxy = Proxy::start(world.registry.address()).unwrap();
    let name: Reference = format!("{}/x:y", proxy.address()).parse().unwrap();
    proxy.cut_after(4 << 20);
    let error = pull(&world.images, &name).await.unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("`host`"), "{error}");
    assert_eq!((world.count("layers"), world.count("records"), world.count("names")), (0, 0, 0));
    let half = fs::read_dir(world.data.path().join("partial")).unwrap().next().unwrap().unwrap();
    let came = half.metadata().unwrap().len();
    assert!(came > 1 << 20, "{came}");

    proxy.heal();
    let (sender, mut steps) = mpsc::channel(1024);
    let wanted = Pull { reference: name, with_credentials: false };
    let held = world.images.pull(&wanted, &Progress::to(sender)).await.unwrap();
    let first = std::iter::from_fn(|| steps.try_recv().ok()).find_map(|step| match step {
        Step::Transferred { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert!(first.unwrap() > came, "{first:?} after {came}");
    assert_eq!(fs::read(world.trees(&held)[0].join("noise")).unwrap(), noise);
    assert_eq!(world.count("partial"), 0);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let Some(world) = World::open() else { return };
    let good = layer("f", b"1");
    let broken = image(&[good.clone(), layer("g", b"2")], json!({}));
    world.registry.put("broken", "1", &broken).unwrap();
    let file = world.registry.file_of(&broken.layers[1].blob.digest);
    let mut bytes = fs::read(&file).unwrap();
    bytes[12] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = world.pull("broken:1").await.unwrap_err().to_string();
    assert!(error.contains("was asked for"), "{error}");

    // Its digest is right, and it is not the layer that the configuration names.
    let other = Layer { diff_id: warren_test_registry::digest(b"other"), ..good.clone() };
    world.registry.put("lie", "1", &image(&[other], json!({}))).unwrap();
    let error = world.pull("lie:1").await.unwrap_err().to_string();
    assert!(error.contains("where the configuration says"), "{error}");
    let no_tar = Layer::gzip(b"no archive at all");
    world.registry.put("lie", "2", &image(&[no_tar], json!({}))).unwrap();
    assert!(matches!(world.pull("lie:2").await, Err(ImageError::Unusable { .. })));

    let error = world.pull("absent:1").await.unwrap_err();
    assert!(matches!(error, ImageError::NotInRegistry { .. }), "{error}");
    world.images.prune(Prune::Unused, &none()).await.unwrap();
    let left: Vec<_> =
        ["layers", "blobs/sha256", "records", "names", "tmp"].map(|it| world.count(it)).into();
    assert_eq!(left, [0; 5]);
}

#[tokio::test]
async fn a_bomb_is_stopped_by_the_limit() {
    let Some(mut world) = World::open() else { return };
    world.registry.put("bomb", "1", &image(&[layer("f", &vec![0; 64 << 20])], json!({}))).unwrap();
    world.again(Settings { most_image_bytes: Some(1 << 20), ..Settings::default() });
    let error = world.pull("bomb:1").await.unwrap_err();
    assert!(matches!(error, ImageError::AboveSetting { setting: "image_size", .. }), "{error}");
    assert_eq!((world.count("layers"), world.count("tmp")), (0, 0));
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_may_be_down() {
    let Some(mut world) = World::open() else { return };
    world.registry.put("library/x", "y", &image(&[layer("f", b"1")], json!({}))).unwrap();
    let dead = {
        // Bound, and nobody listens any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let live = format!("http://{}", world.registry.address());
    let hub = |address: &str| ("docker.io".to_owned(), address.to_owned());
    let mirrors = vec![hub(&dead), hub(&live)];
    world.again(Settings { mirrors, ..Settings::default() });
    let held = pull(&world.images, &"x:y".parse().unwrap()).await.unwrap();
    assert_eq!(held.image.references[0].to_string(), "x:y");
}

#[tokio::test]
async fn pulls_at_the_same_time_do_the_work_once() {
    let Some(world) = World::open() else { return };
    let shared = layer("shared", &vec![7; 1 << 20]);
    for name in ["a", "b", "c"] {
        let layers = [shared.clone(), layer(name, name.as_bytes())];
        world.registry.put(name, "1", &image(&layers, json!({}))).unwrap();
    }
    let names = ["a:1", "b:1", "c:1", "a:1"];
    let pulled = futures::future::join_all(names.map(|name| world.pull(name))).await;
    assert!(pulled.iter().all(Result::is_ok), "{pulled:?}");
    assert_eq!((world.count("layers"), world.count("records")), (4, 3));
    assert_eq!((world.count("partial"), world.count("tmp")), (0, 0));
}
