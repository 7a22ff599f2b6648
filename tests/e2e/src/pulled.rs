//! Images of a registry, pulled and run.

use std::fs;

use serde_json::{Value, json};
use warren_test_registry::{Image, Layer, Proxy, Registry, RegistryError, Tree};

use crate::{harness::Home, images::small_root};

/// A registry, or why there is none.
pub(crate) fn registry() -> Option<Registry> {
    match Registry::start() {
        Ok(registry) => Some(registry),
        Err(RegistryError::NotInstalled) => {
            println!("SKIPPED: docker-registry is not installed");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A small root, with a layer on top that changes it and a configuration.
pub(crate) fn tool() -> Image {
    let root = small_root();
    let base = Tree::of(root.path()).expect("read the root").into_tar();
    let top = Tree::default()
        .file("etc/.wh.motd", b"")
        .directory("work")
        .file("work/greeting", b"hello from the image\n")
        .into_tar();
    let config = json!({
        "Env": ["PATH=/usr/bin:/bin", "FROM_IMAGE=yes"],
        "User": "1000:1000",
        "WorkingDir": "/work",
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["cat greeting; echo $FROM_IMAGE"],
    });
    Image::new(vec![Layer::gzip(&base), Layer::plain(top)], &config)
}

pub(crate) fn list(home: &Home) -> Value {
    let text = home.warren(&["image", "list", "--json"]).good().text();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_image_of_a_registry_is_run_as_it_says() {
    let Some(mut registry) = registry() else { return };
    registry.put("team/tool", "1", &tool()).unwrap();
    let home = Home::new();
    let name = format!("{}/team/tool:1", registry.address());
    // Without a command, what the image names.
    let said = home.warren(&["run", "--image", &name]).good();
    assert_eq!(said.text(), "hello from the image\nyes\n");
    // From here on nobody is asked.
    registry.kill();
    let line = "pwd; ls /etc/motd 2>&1 | grep -c 'No such'; echo x > /tmp/x 2>/dev/null || echo no";
    let said = home.warren(&["run", "--image", &name, "--", "sh", "-c", line]);
    assert!(said.text().starts_with("/work\n"), "{}", said.text());
    let sandbox = home.create(&json!({"image": name, "user": "root"}));
    assert_eq!(
        sandbox.root("cat /work/greeting; echo changed > /work/greeting"),
        "hello from the image\n"
    );
    let other = home.create(&json!({"image": name}));
    assert_eq!(other.root("cat /work/greeting"), "hello from the image\n");
    assert_eq!(sandbox.created["workdir"], "/work");

    let listed = list(&home);
    let image = &listed["images"][0];
    assert_eq!((&image["references"][0], &image["in_use"]), (&json!(name), &json!(true)));
    let refused = home.warren(&["image", "rm", image["id"].as_str().unwrap()]);
    assert!(refused.errors().contains("in use"), "{}", refused.errors());
    for id in [&sandbox.id, &other.id] {
        home.warren(&["rm", id]).good();
    }
    home.warren(&["image", "rm", &name]).good();
    assert_eq!(list(&home)["images"], json!([]));
    assert_eq!(fs::read_dir(home.data().join("images/layers")).unwrap().count(), 0);

    let ended = home.warren(&["run", "--image", &name, "--", "true"]);
    assert_eq!(ended.code(), 125);
    assert!(ended.errors().contains("could not reach the registry"), "{}", ended.errors());
    assert!(ended.errors().contains("`host`"), "{}", ended.errors());
}

#[test]
fn an_image_goes_from_server_to_server_in_a_file_and_by_a_registry() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &tool()).unwrap();
    let (home, other) = (Home::new(), Home::new());
    let name = format!("{}/team/tool:1", registry.address());
    home.warren(&["image", "pull", &name]).good();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tool.tar");
    let file = file.to_str().unwrap();
    home.warren(&["image", "export", &name, "--output", file, "--format", "docker"]).good();
    other.warren(&["image", "import", file]).good();
    assert_eq!(list(&home)["images"][0]["id"], list(&other)["images"][0]["id"]);
    let said = other.warren(&["run", "--image", &name]).good();
    assert_eq!(said.text(), "hello from the image\nyes\n");

    let copy = format!("{}/copies/tool:2", registry.address());
    other.warren(&["image", "push", &name, &copy]).good();
    home.warren(&["image", "prune", "--all"]).good();
    let said = home.warren(&["run", "--image", &copy]).good();
    assert_eq!(said.text(), "hello from the image\nyes\n");
    home.warren(&["image", "tag", &copy, "mine:1"]).good();
    assert_eq!(home.warren(&["run", "--image", "mine:1"]).good().text(), said.text());
}

#[test]
fn a_server_that_is_killed_while_it_pulls_leaves_nothing_half_made() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &tool()).unwrap();
    let proxy = Proxy::start(registry.address()).unwrap();
    let home = Home::new();
    home.warren(&["list"]).good();
    proxy.stall_after(200_000);
    let name = format!("{}/team/tool:1", proxy.address());
    let mut pulling = home.command(&["image", "pull", &name]);
    let mut pulling = pulling.spawn().expect("start a pull");
    proxy.wait_until_cut();
    home.kill_server();
    pulling.wait().expect("it ends");
    proxy.heal();
    assert_eq!(list(&home)["images"], json!([]));
    for directory in ["layers", "records", "names", "partial", "blobs/sha256"] {
        let left = fs::read_dir(home.data().join("images").join(directory)).unwrap().count();
        assert_eq!(left, 0, "{directory}");
    }
    assert_eq!(
        home.warren(&["run", "--image", &name]).good().text(),
        "hello from the image\nyes\n"
    );
}
