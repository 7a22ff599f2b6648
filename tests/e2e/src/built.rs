//! Templates that stand on images of a registry, and on files of this machine.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use warren_test_registry::{Image, Layer, Registry, RegistryError, Tree};

use crate::{
    harness::{Home, command, run, wait_until},
    images::root_with,
};

const PROGRAMS: [&str; 12] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/cp",
    "/bin/touch",
    "/bin/chmod",
    "/bin/chown",
    "/bin/ln",
    "/usr/bin/id",
    "/usr/bin/stat",
    "/bin/sleep",
];

const DOCKERFILE: &str = "\
ARG BASE
FROM ${BASE} AS build
ARG WORD
WORKDIR work
RUN cat greeting > out; echo \"built $WORD by $(id -un) in $(pwd)\" >> out; mkdir bin; cp /bin/cat bin/tac
USER agent
RUN touch /tmp/mine && stat -c %U /tmp/mine > /tmp/whose

FROM ${BASE}
ENV GREETING=\"hello $FROM_IMAGE\"
COPY --from=build /image/work/out /image/work/bin ./
COPY --from=build /tmp/whose /srv/
COPY tool.sh /usr/local/bin/tool
USER agent
ENTRYPOINT [\"tool\"]
CMD [\"first\", \"second\"]
";

/// A registry, or why there is none.
fn registry() -> Option<Registry> {
    match Registry::start() {
        Err(RegistryError::NotInstalled) => {
            println!("SKIPPED: docker-registry is not installed");
            None
        }
        other => Some(other.expect("a registry")),
    }
}

/// An image with a few programs, a user `agent`, and a configuration of its own.
fn image() -> Image {
    let root = root_with(&PROGRAMS);
    let etc = root.path().join("etc");
    fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nagent:x:1234:1234::/image:/bin/sh\n")
        .unwrap();
    fs::write(etc.join("group"), "root:x:0:\nagent:x:1234:\n").unwrap();
    for (name, mode) in [("tmp", 0o1777), ("root", 0o700)] {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let base = Tree::of(root.path()).unwrap().into_tar();
    let top = Tree::default()
        .directory("image/")
        .directory("image/work/")
        .file("image/work/greeting", b"from the image\n")
        .into_tar();
    let config = json!({
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=image"],
        "WorkingDir": "/image",
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo the image's own command"],
    });
    Image::new(vec![Layer::gzip(&base), Layer::plain(top)], &config)
}

fn context(dockerfile: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
    let tool = folder.path().join("tool.sh");
    fs::write(&tool, "#!/bin/sh\necho \"$@\"; echo $GREETING; id -un; pwd; cat out\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// How a build ended, and how many of its steps were found.
fn outcome(built: &Value) -> (&str, u64) {
    (built["status"].as_str().unwrap(), built["cached"].as_u64().unwrap())
}

#[test]
fn a_template_stands_on_an_image_of_a_registry() {
    let Some(mut registry) = registry() else { return };
    registry.put("team/tool", "1", &image()).unwrap();
    let home = Home::new();
    let folder = context(DOCKERFILE);
    let base = format!("BASE={}/team/tool:1", registry.address());
    let arguments = ["--build-arg", &base, "--build-arg", "WORD=one"];
    let built = home.build(folder.path(), &arguments);
    assert_eq!(outcome(&built), ("ready", 0), "{built}");
    let said = home.warren(&["run", "--template", "t"]).good().text();
    let expected = "first second\nhello image\nagent\n/image\nfrom the image\n\
                    built one by root in /image/work\n";
    assert_eq!(said, expected);
    let sandbox = home.create(&json!({"template": "t"}));
    assert_eq!(sandbox.root("./tac /srv/whose"), "agent\n");

    // From here on nobody is asked: the image is there, and so are all results.
    registry.kill();
    let again = home.build(folder.path(), &arguments);
    assert_eq!(outcome(&again), ("ready", 5), "{again}");
    let other = ["--build-arg", &base, "--build-arg", "WORD=two"];
    let changed = home.build(folder.path(), &other);
    assert_eq!(outcome(&changed), ("ready", 0), "everything comes after the word: {changed}");
    fs::write(folder.path().join("tool.sh"), "#!/bin/sh\necho changed\n").unwrap();
    let changed = home.build(folder.path(), &other);
    assert_eq!(outcome(&changed), ("ready", 4), "{changed}");
    assert_eq!(home.warren(&["run", "--template", "t"]).good().text(), "changed\n");

    // What a template stands on stays, whoever wants it gone.
    home.warren(&["image", "prune", "--all"]).good();
    assert_eq!(home.warren(&["run", "--template", "t"]).good().text(), "changed\n");
}

#[test]
fn what_a_template_starts_waits_ready_on_an_image_of_a_registry() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &image()).unwrap();
    let home = Home::new();
    let dockerfile = format!("FROM {}/team/tool:1\nUSER agent\n", registry.address());
    let folder = context(&dockerfile);
    let line = "id -un > /tmp/who; touch /tmp/ready; sleep 1000";
    let more = ["--start", line, "--ready", "file:/tmp/ready", "--warm", "1"];
    let built = home.build(folder.path(), &more);
    assert_eq!(outcome(&built), ("ready", 0), "{built}");
    let page = || home.api("GET", "/v1/metrics", b"").text();
    wait_until("one waits", || page().lines().any(|line| line == "warren_sandboxes_parked 1"));
    let warm = home.create(&json!({"template": "t"}));
    assert_eq!(warm.get()["warm"], true);
    assert_eq!(warm.root("cat /tmp/who"), "agent\n");
}

#[test]
fn a_template_stands_on_a_directory_or_an_archive_of_this_machine() {
    let root = root_with(&PROGRAMS);
    let files = tempfile::tempdir().unwrap();
    let archive = files.path().join("root.tar");
    let mut tar = command("tar");
    run(tar.arg("-C").arg(root.path()).arg("-cf").arg(&archive).arg("."), b"").good();
    let home = Home::new();
    for base in [format!("dir:{}", root.path().display()), format!("tar:{}", archive.display())] {
        let folder = context(&format!("FROM {base}\nRUN cat /etc/motd > /seen\nUSER root\n"));
        let built = home.build(folder.path(), &[]);
        assert_eq!(outcome(&built), ("ready", 0), "{base}: {built}");
        assert_eq!(outcome(&home.build(folder.path(), &[])), ("ready", 1));
        let sandbox = home.create(&json!({"template": "t"}));
        assert_eq!(sandbox.root("cat /seen"), "a small root\n", "{base}");
    }
    assert!(!root.path().join("seen").exists());
}

#[test]
fn a_copy_from_a_stage_keeps_owners_and_modes_and_one_of_files_is_roots() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &image()).unwrap();
    let home = Home::new();
    let base = format!("{}/team/tool:1", registry.address());
    let folder = context(&format!(
        "FROM {base} AS build\n\
         RUN mkdir /made && cp /bin/cat /made/cat && chmod 4755 /made/cat && touch /made/file\n\
         RUN chown 1234:1234 /made/file && ln -s file /made/link && chown -h 77:78 /made/link\n\
         FROM {base}\n\
         COPY --from=build /made /all/\n\
         COPY --from=build /made/cat /one/other\n\
         COPY --from=build --chown=agent --chmod=2750 /made/cat /given/\n\
         COPY --chmod=4711 tool.sh /set/\n\
         COPY tool.sh /plain/\n\
         USER root\n"
    ));
    let built = home.build(folder.path(), &[]);
    assert_eq!(outcome(&built), ("ready", 0), "{built}");
    let sandbox = home.create(&json!({"template": "t"}));
    let said = sandbox.root(
        "stat -c '%n %a %u:%g' /all/cat /all/file /all/link /one/other /given/cat /set/tool.sh \
         /plain/tool.sh",
    );
    let expected = "/all/cat 4755 0:0\n/all/file 644 1234:1234\n/all/link 777 77:78\n\
                    /one/other 4755 0:0\n/given/cat 2750 1234:1234\n/set/tool.sh 4711 0:0\n\
                    /plain/tool.sh 755 0:0\n";
    assert_eq!(said, expected);
}
