//! The server killed while it throws images away.

use std::{fs, path::Path, time::Duration};

use serde_json::json;
use warren_test_registry::{Image, Layer, Tree};

use super::{image, images::listed, kept, killed::pause, random, registry};
use crate::harness::{Home, attempt, wait_until};

const ROUNDS: usize = 10;

/// An image that shares all layers but one with [`image`], whose own has many files.
fn other() -> Image {
    let mut layers = image(1_000).layers;
    let many = (0..400).fold(Tree::default(), |tree, number| {
        tree.file(&format!("srv/many-{number}"), number.to_string().as_bytes())
    });
    layers.push(Layer::gzip(&many.into_tar()));
    Image::new(layers, &json!({"Cmd": ["/bin/sh"]}))
}

#[test]
fn images_that_are_thrown_away_are_whole_or_gone_whenever_the_server_is_killed() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &image(400_000)).unwrap();
    registry.put("team/other", "1", &other()).unwrap();
    let names = ["tool", "other"].map(|it| format!("{}/team/{it}:1", registry.address()));
    let home = Home::new();
    home.warren(&["list"]).good();
    let before = kept(&home);
    for round in 0..ROUNDS {
        for name in &names {
            home.warren(&["image", "pull", name]).good();
        }
        // One of them is in use in every other round: nothing may take that away.
        let used = (round % 2 == 0).then(|| {
            let made = home.create(&json!({"image": names[0]}));
            made.root("cat /srv/middle");
            made.id
        });
        let socket = home.socket();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let removed = names[1].replace('/', "%2F");
                if round % 3 == 2 {
                    drop(attempt(&socket, &format!("DELETE /v1/images/{removed} HTTP/1.1"), ""));
                }
                drop(attempt(&socket, "POST /v1/images/prune HTTP/1.1", r#"{"all":true}"#));
            });
            pause(Duration::from_micros(random(25_000)));
            home.kill_server();
            asked.join().expect("a client that does not fail");
        });
        check(&home, &names, used.as_deref());
        home.warren(&["rm", "--all", "--force"]).good();
    }
    home.warren(&["image", "prune", "--all"]).good();
    assert_eq!(listed(&home), [""; 0]);
    wait_until("nothing of the images is left", || {
        kept(&home).difference(&before).all(|path| is_frame(&home, path))
    });
}

/// What is still to be seen is whole, and what a sandbox is made from is to be seen.
#[track_caller]
fn check(home: &Home, names: &[String; 2], used: Option<&str>) {
    home.warren(&["list"]).good();
    let there = listed(home);
    assert!(there.iter().all(|name| names.contains(name)), "{there:?}");
    if let Some(id) = used {
        assert!(there.contains(&names[0]), "an image in use is gone: {there:?}");
        let again = home.warren(&["exec", id, "--", "/bin/cat", "/srv/middle"]).good();
        assert_eq!(again.text(), "middle\n");
    }
    let read = "cat /srv/middle && (test ! -e /srv/many-0 || cat /srv/many-399)";
    for name in &there {
        let said = home.warren(&["run", "--image", name, "--", "/bin/sh", "-c", read]).good();
        let expected = if *name == names[0] { "middle\n" } else { "middle\n399" };
        assert_eq!(said.text(), expected);
    }
    // What no image needs goes with the server's start.
    let layers = home.data().join("images/layers");
    let most = if there.contains(&names[1]) { 5 } else { there.len() * 3 };
    let count = || fs::read_dir(&layers).unwrap().count();
    wait_until("layers that nobody needs are gone", || count() <= most);
}

/// The directories that the store always has.
fn is_frame(home: &Home, path: &Path) -> bool {
    path.is_dir()
        && path
            .strip_prefix(home.data().join("images"))
            .is_ok_and(|rest| rest.components().count() <= 1 || rest == Path::new("blobs/sha256"))
}
