//! The authority of this machine: made, shown, and trusted by a system that is none.

use crate::world::World;

#[test]
fn an_authority_is_made_once_and_shown() {
    let world = World::empty();
    let missing = world.warren(&["ca", "show"]);
    assert_eq!(missing.status, 1);
    assert!(missing.stderr.contains("`warren ca init` makes one"), "{}", missing.stderr);
    let made = world.json(&["ca", "init", "Box.example"]);
    assert_eq!(made["domains"], serde_json::json!(["box.example"]));
    let shown = world.data(&["ca", "show"]);
    assert_eq!(Some(shown.trim()), made["certificate"].as_str().map(str::trim));
    let again = world.warren(&["ca", "init"]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("there is a local authority in "), "{}", again.stderr);
    let odd = World::empty().warren(&["ca", "init", "no domain"]);
    assert!(odd.stderr.contains("`no domain` is no domain"), "{}", odd.stderr);
}

#[test]
fn nothing_is_trusted_unasked() {
    let world = World::empty();
    let bundle = world.path("root/usr/local/share/ca-certificates");
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::create_dir_all(world.path("root/usr/sbin")).unwrap();
    let root = world.path("root").display().to_string();
    std::os::unix::fs::symlink("/bin/true", world.path("root/usr/sbin/update-ca-certificates"))
        .unwrap();
    world.data(&["ca", "init"]);
    let asked = world.warren(&["ca", "trust", "--root", &root]);
    assert_eq!(asked.status, 2, "nobody can be asked: {}", asked.stderr);
    assert_eq!(std::fs::read_dir(&bundle).unwrap().count(), 0);
    world.data(&["ca", "trust", "--root", &root, "--yes"]);
    assert_eq!(std::fs::read_dir(&bundle).unwrap().count(), 1);
    world.data(&["ca", "trust", "--root", &root, "--yes", "--undo"]);
    assert_eq!(std::fs::read_dir(&bundle).unwrap().count(), 0);
}
