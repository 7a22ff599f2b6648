use std::{sync::Arc, time::Duration};

use warren_core::{
    Caller, SandboxError,
    access::ProjectQuota,
    caller::Owner,
    exec::Command,
    fake::FakeFiles,
    sandbox::{Sandbox, Wanted},
    sandboxes::{WantedFork, WantedSnapshot},
    state::State,
    templates::{
        model::{Build, BuildStatus, Ready, Start, WantedLimits},
        request::BuildRequest,
    },
};

use crate::world::World;

const THREE: &str = "FROM host\n\
                     RUN [\"echo\", \"one\"]\n\
                     ENV A=1\n\
                     COPY a.txt /data/\n\
                     RUN [\"echo\", \"two\"]\n";

fn request(name: &str, dockerfile: &str) -> BuildRequest {
    BuildRequest::new(name.to_owned(), warren_dockerfile::parse(dockerfile).unwrap())
}

/// Starts a build on a context with these files.
fn start(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> Arc<Build> {
    start_as(world, request("t", dockerfile), files)
}

fn start_as(world: &World, mut request: BuildRequest, files: &[(&str, &str)]) -> Arc<Build> {
    let templates = world.sandboxes.templates();
    let archive = FakeFiles::archive(files);
    let (context, _) = world.run(templates.upload(&world.caller, None, archive)).unwrap();
    request.context = Some(context);
    world.run(templates.build(&world.caller, request)).unwrap()
}

/// Waits for a build's end.
fn finish(world: &World, build: &Build) -> (Arc<Build>, Vec<String>) {
    let templates = world.sandboxes.templates();
    let mut follower = templates.follow_build(&world.caller, build.id, 0).unwrap();
    let mut log = Vec::new();
    world.run(async {
        let read = async {
            while let Some(entries) = follower.next().await {
                log.extend(entries.into_iter().map(|entry| entry.message));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    });
    (follower.build(), log)
}

fn build(world: &World, dockerfile: &str, files: &[(&str, &str)]) -> (Arc<Build>, Vec<String>) {
    let build = start(world, dockerfile, files);
    finish(world, &build)
}

fn from(template: &str) -> Wanted {
    Wanted { template: Some(template.to_owned()), ..Wanted::default() }
}

#[test]
fn a_build_makes_a_version_that_sandboxes_are_made_from() {
    let world = World::start();
    let (built, log) = build(&world, THREE, &[("a.txt", "content")]);
    assert_eq!((built.status, built.cached), (BuildStatus::Ready, 0), "{log:?}");
    assert_eq!((built.done, built.steps), (5, 5));
    for line in ["[1/5] FROM host", "one", "[4/5] COPY a.txt /data/", "two", "t:latest is ready"] {
        assert!(log.iter().any(|entry| entry == line), "{line} in {log:?}");
    }
    let template = world.sandboxes.templates().get(&world.caller, "t").unwrap();
    assert_eq!(template.versions.len(), 1);
    assert_eq!(template.versions[0].image.layers().len(), 3);
    assert!(world.runtime.guests().is_empty(), "no sandbox of the build is left");
    let made = world.create_as(from("t"));
    let agent = world.runtime.agent(&made.id).unwrap();
    assert_eq!(agent.initialised()[0]["env"]["A"], "1");
    assert_eq!(agent.archive("/data").unwrap(), "a.txt=content\n");
    assert!(!world.create().spec.image.layers().iter().any(|_| true));
}

#[test]
fn only_what_changed_and_what_follows_is_done_again() {
    let world = World::start();
    let files = &[("a.txt", "content"), ("b.txt", "unused")];
    build(&world, THREE, files);
    let cached = |dockerfile: &str, files: &[(&str, &str)]| {
        let (built, log) = build(&world, dockerfile, files);
        assert_eq!(built.status, BuildStatus::Ready, "{log:?}");
        built.cached
    };
    assert_eq!(cached(THREE, files), 3);
    assert_eq!(cached(THREE, &[("a.txt", "content"), ("b.txt", "changed")]), 3);
    assert_eq!(cached(THREE, &[("a.txt", "changed")]), 1);
    assert_eq!(cached(&THREE.replace("A=1", "A=2"), files), 2, "COPY does not see variables");
    assert_eq!(cached(&THREE.replace("one", "zero"), files), 0);
    assert_eq!(cached(&THREE.replace("two", "three"), files), 2);
    let mut fresh = request("t", THREE);
    fresh.no_cache = true;
    let fresh = start_as(&world, fresh, files);
    assert_eq!(finish(&world, &fresh).0.cached, 0);
}

#[test]
fn a_step_that_fails_is_named_and_leaves_nothing() {
    let world = World::start();
    let (built, log) = build(&world, "FROM host\n\nRUN [\"fail\", \"3\"]\n", &[]);
    assert_eq!(built.status, BuildStatus::Failed);
    let failure = built.failure.as_ref().unwrap();
    assert_eq!(failure.line, Some(3));
    assert_eq!(failure.message, "it ended with status 3");
    assert!(log.iter().any(|line| line == "failed"), "{log:?}");
    world.until("nothing is left", |world| {
        world.runtime.guests().is_empty() && world.runtime.saved().is_empty()
    });
    let error = world.run(world.sandboxes.create(&world.caller, from("t"), None)).unwrap_err();
    assert!(error.to_string().contains("never been built"), "{error}");
    for (dockerfile, part) in [
        ("FROM host\nCOPY missing /x", "`missing` is not among the files"),
        ("FROM host\nRUN [\"nothing\"]", "no program named nothing"),
        ("FROM host\nRUN --mount=type=secret,id=x,required [\"echo\"]", "--secret id=x"),
        ("FROM template:none\n", "there is no template none"),
        ("FROM host\nUSER a:b:c d", "expected the name"),
    ] {
        let (built, _) = build(&world, dockerfile, &[]);
        let message = built.failure.clone().unwrap().message;
        assert!(message.contains(part), "{dockerfile}: {message}");
    }
}

#[test]
fn what_cannot_be_built_is_refused_before_anything_is_there() {
    let world = World::start();
    let templates = world.sandboxes.templates();
    let refuse = |request: BuildRequest| {
        let refused = world.run(templates.build(&world.caller, request));
        assert!(matches!(refused, Err(SandboxError::Invalid { .. })), "{refused:?}");
    };
    refuse(request("No", "FROM host"));
    refuse(BuildRequest { target: Some("none".into()), ..request("t", "FROM host") });
    refuse(BuildRequest { tags: vec!["a b".into()], ..request("t", "FROM host") });
    refuse(BuildRequest { warm: Some(99), ..request("t", "FROM host") });
    assert!(templates.list(&world.caller).is_empty());
}

#[test]
fn a_build_can_be_cancelled() {
    let world = World::start();
    let started = start(&world, "FROM host\nRUN [\"sleep\"]\n", &[]);
    world.until("the step runs", |world| !world.runtime.guests().is_empty());
    let templates = world.sandboxes.templates();
    let ended = world.run(templates.cancel(&world.caller, started.id)).unwrap();
    assert_eq!(ended.status, BuildStatus::Cancelled);
    world.until("its sandbox is gone", |world| world.runtime.guests().is_empty());
    assert!(templates.get(&world.caller, "t").unwrap().versions.is_empty());
}

#[test]
fn a_server_that_dies_in_a_build_leaves_nothing_half_made() {
    let mut world = World::start();
    let dockerfile = "FROM host\nRUN [\"echo\", \"one\"]\nRUN [\"sleep\"]\n";
    let started = start(&world, dockerfile, &[]);
    let templates = world.sandboxes.templates();
    world.until("the second step runs", |world| {
        let build = templates.get_build(&world.caller, started.id).unwrap();
        build.done == 2 && !world.runtime.guests().is_empty()
    });
    drop(templates);
    world.crash(|_| {});
    let templates = world.sandboxes.templates();
    let found = templates.get_build(&world.caller, started.id).unwrap();
    assert_eq!(found.status, BuildStatus::Failed);
    assert!(found.failure.as_ref().unwrap().message.contains("the server ended"));
    assert!(world.runtime.guests().is_empty());
    assert!(templates.get(&world.caller, "t").unwrap().versions.is_empty());
    // What was finished is found.
    let (built, _) = build(&world, "FROM host\nRUN [\"echo\", \"one\"]\n", &[]);
    assert_eq!((built.status, built.cached), (BuildStatus::Ready, 1));
    world.restart(|_| {});
    assert_eq!(world.create_as(from("t:latest")).state, State::Running);
    let log = world.sandboxes.templates().build_log(&world.caller, built.id, 0, 100).unwrap();
    assert!(log.iter().any(|entry| entry.message == "t:latest is ready"), "{log:?}");
}

#[test]
fn secrets_are_in_no_log_and_in_no_database() {
    let world = World::start();
    let dockerfile = "FROM host\n\
                      RUN --mount=type=secret,id=token,env=TOKEN [\"echo\", \"hunter2hunter2\"]\n";
    let mut wanted = request("t", dockerfile);
    wanted.secrets.insert("token".to_owned(), "hunter2hunter2".into());
    let started = start_as(&world, wanted, &[]);
    let (built, log) = finish(&world, &started);
    assert_eq!(built.status, BuildStatus::Ready, "{log:?}");
    // The recipe itself has the word in it, which is its own fault: the log has it nowhere.
    assert!(log.iter().all(|line| !line.contains("hunter2")), "{log:?}");
    world.run(world.sandboxes.shut_down());
    let files = std::fs::read_dir(world.directory.path()).unwrap().flatten();
    for file in files {
        let bytes = std::fs::read(file.path()).unwrap();
        let found = bytes.windows(14).any(|window| window == b"hunter2hunter2");
        assert!(!found, "{}", file.path().display());
    }
}

#[test]
fn stages_are_copied_from_and_unneeded_ones_are_not_built() {
    let world = World::start();
    let dockerfile = "FROM host AS a\n\
                      COPY a.txt /x/\n\
                      FROM host AS unneeded\n\
                      RUN [\"fail\", \"1\"]\n\
                      FROM scratch\n\
                      COPY --from=a /x /y/\n\
                      COPY <<in.txt /z/\n\
                      hello\n\
                      in.txt\n";
    let (built, log) = build(&world, dockerfile, &[("a.txt", "content")]);
    assert_eq!(built.status, BuildStatus::Ready, "{log:?}");
    let made = world.create_as(from("t"));
    let agent = world.runtime.agent(&made.id).unwrap();
    assert_eq!(agent.archive("/y").unwrap(), "a.txt=content\n");
    assert_eq!(agent.archive("/z").unwrap(), "in.txt=hello\n");
    assert_eq!(agent.archive("/x"), None);
    assert!(world.runtime.files().trees().iter().all(|tree| !tree.ends_with("-copy")));
}

#[test]
fn a_private_template_is_not_there_for_others_and_a_public_one_is() {
    let world = World::start();
    world.project("other", ProjectQuota::default());
    let other = Caller::remote(Owner::new("other"));
    build(&world, "FROM host\nRUN [\"echo\"]\n", &[]);
    let templates = world.sandboxes.templates();
    let id = templates.get(&world.caller, "t").unwrap().id.to_string();
    for name in ["t", "default/t", id.as_str()] {
        let found = templates.get(&other, name);
        assert!(matches!(found, Err(SandboxError::NoTemplate { .. })), "{name}");
    }
    world.run(templates.update(&world.caller, "t", Some(true), None)).unwrap();
    assert!(templates.get(&other, "t").is_err(), "a name alone is one's own");
    let made = world.run(world.sandboxes.create(&other, from("default/t"), None)).unwrap();
    assert_eq!(made.sandbox.state, State::Running);
    assert!(world.run(templates.delete(&other, "default/t")).is_err());
    assert!(world.run(templates.tag(&other, "default/t", &["x".into()])).is_err());
    assert!(templates.builds(&other, "default/t").is_err());
}

#[test]
fn tags_name_versions_and_what_nobody_needs_goes() {
    let world = World::start();
    let numbered = |number: u32| format!("FROM host\nRUN [\"echo\", \"{number}\"]\n");
    build(&world, &numbered(1), &[]);
    let templates = world.sandboxes.templates();
    world.run(templates.tag(&world.caller, "t", &["first".to_owned()])).unwrap();
    for number in 2..=5 {
        build(&world, &numbered(number), &[]);
    }
    let template = templates.get(&world.caller, "t").unwrap();
    let numbers: Vec<_> = template.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 3, 4, 5], "tagged ones, and the newest of the others");
    let version = |name: &str| templates.resolve(&world.caller, name).unwrap().1.number;
    assert_eq!(
        (version("t:first"), version("t"), version(&format!("{}:latest", template.id))),
        (1, 5, 5)
    );
    assert!(world.run(templates.untag(&world.caller, "t", "none")).is_err());
    world.run(templates.untag(&world.caller, "t", "first")).unwrap();
    let unknown = templates.resolve(&world.caller, "t:first").unwrap_err().to_string();
    assert!(unknown.contains("its tags are: latest"), "{unknown}");
    let used = world.create_as(from("t"));
    world.run(templates.delete(&world.caller, "t")).unwrap();
    world.run(templates.forget_cache(&world.caller)).unwrap();
    world.until("the layers of the sandbox alone are left", |world| {
        world.runtime.saved().len() == 1
    });
    world.run(world.sandboxes.delete(&world.caller, used.id.as_str())).unwrap();
    world.until("nothing is left", |world| world.runtime.saved().is_empty());
}

#[test]
fn what_is_started_is_ready_before_anybody_has_the_sandbox() {
    let world = World::start();
    world.runtime.set_port(8080, None);
    let start = |command: &[&str], ready| Start {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ready: Some(ready),
        timeout: Duration::from_secs(1),
    };
    let mut wanted = request("t", "FROM host\nENV A=1\n");
    wanted.start = Some(start(&["sleep"], Ready::Port(8080)));
    wanted.warm = Some(1);
    let started = start_as(&world, wanted, &[]);
    finish(&world, &started);
    world.until("one waits", |world| world.sandboxes.parked() == 1);
    let made = world.create_as(from("t"));
    assert!(made.warm);
    let execs = world.run(world.sandboxes.execs(&world.caller, made.id.as_str())).unwrap();
    assert_eq!(execs[0].argv, ["sleep"]);
    // Another environment is not what was started.
    let env = [("A".to_owned(), "2".to_owned())].into();
    assert!(!world.create_as(Wanted { env, ..from("t") }).warm);
    world.until("another waits", |world| world.sandboxes.parked() == 1);
    let templates = world.sandboxes.templates();
    world.run(templates.update(&world.caller, "t", None, Some(0))).unwrap();
    assert_eq!(world.sandboxes.parked(), 0);

    for (name, what, part) in [
        ("never", start(&["sleep"], Ready::Port(1)), "nothing listened on port 1 within 1 seconds"),
        ("fails", start(&["fail", "4"], Ready::Port(1)), "ended with status 4: failed"),
        ("none", start(&["nothing"], Ready::Port(1)), "no program named nothing"),
    ] {
        let mut wanted = request(name, "FROM host\n");
        wanted.start = Some(what);
        let started = start_as(&world, wanted, &[]);
        finish(&world, &started);
        let guests = world.runtime.guests().len();
        let error = world.run(world.sandboxes.create(&world.caller, from(name), None)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(world.runtime.guests().len(), guests, "nothing is left");
    }
}

#[test]
fn what_is_started_can_be_tried_before_there_is_a_version() {
    let world = World::start();
    world.runtime.set_port(8080, None);
    for (port, expected) in [(8080, BuildStatus::Ready), (1, BuildStatus::Failed)] {
        let mut wanted = request("t", "FROM host\nRUN [\"echo\"]\n");
        wanted.start = Some(Start {
            command: vec!["sleep".to_owned()],
            ready: Some(Ready::Port(port)),
            timeout: Duration::from_secs(1),
        });
        wanted.try_start = true;
        let started = start_as(&world, wanted, &[]);
        let (ended, log) = finish(&world, &started);
        assert_eq!(ended.status, expected, "{log:?}");
        assert!(log.iter().any(|line| line.starts_with("Trying what is started")), "{log:?}");
        world.until("no sandbox is left", |world| world.runtime.guests().is_empty());
        if let Some(failure) = &ended.failure {
            assert_eq!((failure.line, &failure.step), (None, &None), "no step is to blame");
            assert!(failure.message.contains("nothing listened on port 1"), "{failure:?}");
        }
    }
    let template = world.sandboxes.templates().get(&world.caller, "t").unwrap();
    assert_eq!(template.versions.len(), 1);
}

#[test]
fn what_was_said_when_a_build_was_announced_is_there_when_it_starts() {
    let mut world = World::start();
    let templates = world.sandboxes.templates();
    let limits = WantedLimits { cpu_millis: Some(500), ..WantedLimits::default() };
    let announced = world.run(templates.announce(&world.caller, "t", &[], limits)).unwrap();
    assert_eq!(announced.limits, limits);
    drop(templates);
    world.crash(|_| {});
    let found = world.sandboxes.templates().get_build(&world.caller, announced.id).unwrap();
    // One that waited for its steps is not waited for any longer.
    assert_eq!((found.limits, found.status), (limits, BuildStatus::Failed));
}

/// What was started in a sandbox.
fn started_in(world: &World, sandbox: &Sandbox) -> Vec<Vec<String>> {
    let execs = world.run(world.sandboxes.execs(&world.caller, sandbox.id.as_str())).unwrap();
    execs.into_iter().map(|exec| exec.argv).collect()
}

/// Builds `t`, which starts `sleep` and waits until something listens on a port.
fn build_started(world: &World, port: u16) {
    world.runtime.set_port(port, None);
    let mut wanted = request("t", "FROM host\nRUN [\"echo\"]\nCMD [\"echo\", \"mine\"]\n");
    wanted.start = Some(Start {
        command: vec!["sleep".to_owned()],
        ready: Some(Ready::Port(port)),
        timeout: Duration::from_secs(1),
    });
    let started = start_as(world, wanted, &[]);
    assert_eq!(finish(world, &started).0.status, BuildStatus::Ready);
}

#[test]
fn what_is_started_is_started_again_with_new_processes() {
    let mut world = World::start();
    build_started(&world, 8080);
    let made = world.create_as(from("t"));
    assert_eq!(started_in(&world, &made), [["sleep"]]);
    let id = made.id.to_string();
    world.run(world.sandboxes.stop(&world.caller, &id)).unwrap();
    // Whoever starts it, and whatever became of the template.
    world.restart(|_| {});
    world.run(world.sandboxes.templates().delete(&world.caller, "t")).unwrap();
    let again = world.run(world.sandboxes.start(&world.caller, &id)).unwrap();
    assert_eq!(again.steps.last().unwrap().0, "ready");
    assert_eq!(started_in(&world, &again.sandbox), [["sleep"]]);

    // A snapshot has no processes, and neither has a fork: both begin with what it starts.
    let wanted = WantedSnapshot::default();
    let (snapshot, _) = world.run(world.sandboxes.snapshot(&world.caller, &id, wanted)).unwrap();
    let name = snapshot.id.to_string();
    let child = world.create_as(Wanted { snapshot: Some(name.clone()), ..Wanted::default() });
    let fork = WantedFork { count: 2, ..WantedFork::default() };
    let forked = world.run(world.sandboxes.fork(&world.caller, &id, fork)).unwrap();
    let back = world.run(world.sandboxes.roll_back(&world.caller, &id, &name)).unwrap();
    let forks = forked.made.iter().map(|made| &made.sandbox);
    for sandbox in forks.chain([&child, &back.sandbox]) {
        assert_eq!(started_in(&world, sandbox), [["sleep"]], "{}", sandbox.id);
    }
}

#[test]
fn a_sandbox_that_is_not_ready_again_runs_all_the_same() {
    let world = World::start();
    build_started(&world, 8080);
    let made = world.create_as(from("t"));
    let id = made.id.to_string();
    world.run(world.sandboxes.stop(&world.caller, &id)).unwrap();
    world.runtime.close_ports();
    let error = world.run(world.sandboxes.start(&world.caller, &id)).unwrap_err();
    assert!(matches!(error, SandboxError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("it runs all the same"), "{error}");
    assert_eq!(world.get(&made).state, State::Running);
    // Of a new one nothing is left.
    let before = world.runtime.guests().len();
    let fork = WantedFork { count: 2, ..WantedFork::default() };
    let forked = world.run(world.sandboxes.fork(&world.caller, &id, fork));
    assert!(matches!(forked, Err(SandboxError::NotReady { .. })), "{forked:?}");
    assert_eq!(world.runtime.guests().len(), before);
}

#[test]
fn templates_of_the_same_files_keep_their_own_commands() {
    let world = World::start();
    let dockerfile =
        |word: &str| format!("FROM host\nRUN [\"echo\"]\nCMD [\"echo\", \"{word}\"]\n");
    for name in ["one", "two"] {
        let started = start_as(&world, request(name, &dockerfile(name)), &[]);
        assert_eq!(finish(&world, &started).0.status, BuildStatus::Ready);
    }
    for name in ["one", "two"] {
        let made = world.create_as(from(name));
        assert_eq!(made.program.command.as_deref(), Some(&["echo", name].map(str::to_owned)[..]));
        let command = Command::default();
        let exec = world.sandboxes.exec(&world.caller, made.id.as_str(), &command);
        world.run(exec).unwrap();
        assert_eq!(started_in(&world, &made), [["echo", name]]);
    }
}
