//! Images and snapshots on their way into a real Docker, and out of one.

use serde_json::{Value, json};
use warren_test_registry::{Image, Layer, Tree};

use crate::{
    harness::{Docker, Home, command, needs, run, skip},
    pulled::{list, registry, tool},
};

/// What a file holds in an image that Docker has.
#[track_caller]
fn in_docker(docker: &Docker, image: &str, file: &str) -> Option<String> {
    let made = docker.run(&["create", image, "/bin/sh"]).good().text();
    let copied = docker.run(&["cp", &format!("{}:{file}", made.trim()), "-"]);
    docker.run(&["rm", made.trim()]).good();
    if copied.code() != 0 {
        assert!(copied.errors().contains("ould not find the file"), "{}", copied.errors());
        return None;
    }
    let mut archive = tar::Archive::new(copied.stdout.as_slice());
    let entry = archive.entries().unwrap().next().expect("a file").unwrap();
    Some(std::io::read_to_string(entry).unwrap())
}

#[track_caller]
fn inspect(docker: &Docker, image: &str) -> Value {
    let text = docker.run(&["image", "inspect", image]).good().text();
    serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
}

#[test]
fn what_is_exported_is_loaded_by_docker() {
    let Some(registry) = registry() else { return };
    let docker = match Docker::start() {
        Ok(docker) => docker,
        Err(reason) => skip!("{reason}"),
    };
    registry.put("team/tool", "1", &tool()).unwrap();
    let image = format!("{}/team/tool:1", registry.address());
    let home = Home::new();
    home.warren(&["image", "pull", &image]).good();
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let exported = file("image.tar");
    home.warren(&["image", "export", &image, "--output", &exported, "--format", "docker"]).good();
    docker.run(&["load", "--input", &exported]).good();
    let loaded = inspect(&docker, &image);
    assert_eq!(loaded["Id"], list(&home)["images"][0]["id"], "it is the same image");
    assert_eq!(loaded["Config"]["User"], "1000:1000");
    assert_eq!(
        in_docker(&docker, &image, "/work/greeting").as_deref(),
        Some("hello from the image\n")
    );
    assert_eq!(in_docker(&docker, &image, "/etc/motd"), None, "a whiteout is one there too");

    let sandbox = home.create(&json!({"image": image, "name": "work"}));
    sandbox.root("echo one > /work/one; echo changed > /work/greeting");
    home.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let saved = file("snapshot.tar");
    home.warren(&["snapshot", "export", "built", &saved]).good();
    docker.run(&["load", "--input", &saved]).good();
    let loaded = inspect(&docker, "built:latest");
    assert_eq!(loaded["Config"]["WorkingDir"], "/work");
    for (name, content) in [("/work/one", "one\n"), ("/work/greeting", "changed\n")] {
        assert_eq!(in_docker(&docker, "built:latest", name).as_deref(), Some(content));
    }
    assert_eq!(in_docker(&docker, "built:latest", "/etc/motd"), None);
}

#[test]
fn an_image_comes_from_a_docker_that_runs() {
    let docker = match Docker::start() {
        Ok(docker) => docker,
        Err(reason) => skip!("{reason}"),
    };
    let root = crate::images::small_root();
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("root.tar");
    let tree = Tree::of(root.path()).unwrap().into_tar();
    std::fs::write(&archive, tree).unwrap();
    let changes = ["--change", "CMD [\"/bin/cat\", \"/etc/motd\"]", "--change", "ENV A=b"];
    let import = [&["import"], &changes[..], &[archive.to_str().unwrap(), "team/root:1"]].concat();
    let id = docker.run(&import).good().text();
    let host = docker.host();
    let home = Home::with(&[("WARREN_BLANKS", "0"), ("DOCKER_HOST", &host)]);
    let came = home.warren(&["image", "import", "--docker", "team/root:1"]).good().text();
    assert_eq!(came, id, "it is the same image");
    let said = home.warren(&["run", "--image", "team/root:1"]).good().text();
    assert_eq!(said, "a small root\n");
    let missing = home.warren(&["image", "import", "--docker", "team/none:1"]);
    assert!(missing.errors().contains("Docker answers"), "{}", missing.errors());
    // The layers of a snapshot that lies on it go with it.
    home.create(&json!({"image": "team/root:1", "name": "work"})).root("echo one > /one");
    home.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let saved = place.path().join("built.tar");
    home.warren(&["snapshot", "export", "built", saved.to_str().unwrap()]).good();
    docker.run(&["load", "--input", saved.to_str().unwrap()]).good();
    assert_eq!(in_docker(&docker, "built:latest", "/one").as_deref(), Some("one\n"));
}

#[test]
fn an_image_comes_from_a_containerd_that_runs() {
    needs!("ctr");
    let docker = match Docker::start() {
        Ok(docker) => docker,
        Err(reason) => skip!("{reason}"),
    };
    let place = tempfile::tempdir().unwrap();
    warren_test_registry::write_layout(&tool(), "registry.invalid/team/tool:1", place.path())
        .unwrap();
    let archive = place.path().join("tool.tar");
    let mut tar = command("tar");
    tar.arg("-C").arg(place.path()).arg("-cf").arg(&archive);
    run(tar.args(["oci-layout", "index.json", "blobs"]), b"").good();
    let address = docker.containerd();
    let settings = [
        ("WARREN_BLANKS", "0"),
        ("CONTAINERD_ADDRESS", address.to_str().unwrap()),
        ("CONTAINERD_NAMESPACE", "team"),
    ];
    let mut ctr = command("ctr");
    ctr.envs(settings).args(["images", "import", "--no-unpack"]).arg(&archive);
    run(&mut ctr, b"").good();
    let home = Home::with(&settings);
    let name = "registry.invalid/team/tool:1";
    home.warren(&["image", "import", "--containerd", name]).good();
    assert_eq!(list(&home)["images"][0]["references"], json!([name]));
    let said = home.warren(&["run", "--image", name]).good().text();
    assert_eq!(said, "hello from the image\nyes\n");
    let missing = home.warren(&["image", "import", "--containerd", "registry.invalid/none:1"]);
    assert!(missing.errors().contains("ctr could not export"), "{}", missing.errors());
}

#[test]
fn devices_of_an_archive_are_left_out_with_a_note() {
    let home = Home::new();
    let place = tempfile::tempdir().unwrap();
    let mut layers = tool().layers;
    let device = Tree::default().entry(tar::EntryType::Char, "dev/sda", "", 0o600, b"");
    layers.push(Layer::gzip(&device.into_tar()));
    let image = Image::new(layers, &json!({}));
    warren_test_registry::write_layout(&image, "tool:1", place.path()).unwrap();
    let archive = place.path().join("tool.tar");
    let mut tar = command("tar");
    tar.arg("-C").arg(place.path()).arg("-cf").arg(&archive);
    run(tar.args(["oci-layout", "index.json", "blobs"]), b"").good();
    let imported = home.warren(&["image", "import", archive.to_str().unwrap()]).good();
    assert!(imported.errors().contains("1 devices of layer sha256:"), "{}", imported.errors());
    let sandbox = home.create(&json!({"image": "tool:1"}));
    assert_eq!(sandbox.root("test -e /dev/sda || echo none"), "none\n");
}
