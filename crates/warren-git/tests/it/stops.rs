//! No stop loses work.

use std::time::Duration;

use warren_git::{GitError, MachineState, PushOn};

use crate::world::{World, git, ran, sh, start, state};

/// The reason for which a machine was kept.
fn kept(error: GitError) -> GitError {
    match error {
        GitError::Kept { state: MachineState::Paused, reason, .. } => *reason,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_machine_is_kept_while_the_remote_is_down() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    world.remote.set_down(true);
    let error = agent.stop().await.unwrap_err();
    assert!(error.to_string().contains("resume it and stop it again"), "{error}");
    assert!(matches!(kept(error), GitError::Remote { .. }));
    assert_eq!(told.take(), ["committed", "push_failed"]);
    assert_eq!(state(&agent), "paused");
    // Again, and the remote is still down.
    kept(agent.stop().await.unwrap_err());
    assert_eq!(told.take(), ["push_failed"]);
    world.remote.set_down(false);
    agent.stop().await.unwrap();
    assert_eq!(told.take(), ["pushed", "stopping", "stopped"]);
    assert_eq!(world.remote.file("x", "work.txt"), "first\nsecond");
}

#[tokio::test]
async fn a_machine_is_kept_while_the_remote_refuses() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    let hook = world.remote.hook("pre-receive", "#!/bin/sh\nexit 1\n");
    sh(&agent, "echo second >> work.txt").await;
    assert!(matches!(kept(agent.stop().await.unwrap_err()), GitError::Refused { .. }));
    std::fs::remove_file(hook).unwrap();
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("x", "work.txt"), "first\nsecond");
}

#[tokio::test]
async fn without_leave_to_commit_or_push_nothing_is_lost_either() {
    let world = World::new().await;
    let (agent, told) = start(world.session("a", "x").auto_commit(false)).await;
    sh(&agent, "echo second >> work.txt").await;
    let reason = kept(agent.stop().await.unwrap_err());
    assert!(matches!(&reason, GitError::Unsaved { what } if what == &["work.txt"]), "{reason}");
    assert!(agent.commit(None).await.unwrap().is_some());
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("x", "work.txt"), "first\nsecond");
    assert_eq!(told.names().last(), Some(&"stopped"));

    let push_on = PushOn { pause: false, stop: false };
    let (agent, _) = start(world.session("b", "y").push_on(push_on)).await;
    sh(&agent, "echo second >> work.txt").await;
    let reason = kept(agent.stop().await.unwrap_err());
    assert!(matches!(&reason, GitError::Unsaved { what } if what == &["refs/heads/y"]), "{reason}");
    agent.push().await.unwrap();
    agent.stop().await.unwrap();
    assert_eq!(agent.state(), MachineState::Stopped);
}

#[tokio::test]
async fn work_beside_the_session_is_rescued() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    let commit = |name: &str| format!("echo {name} > {name}.txt; git add .; git commit -qm {name}");
    sh(&agent, &format!("git switch -qc beside; {}; git switch -q x", commit("beside"))).await;
    for name in ["one", "two"] {
        sh(&agent, &format!("echo {name} >> work.txt; git stash push -q -m {name}")).await;
    }
    sh(&agent, &format!("git switch -q --detach; {}; echo left > left.txt", commit("detached")))
        .await;
    let (branch, detached) = (sh(&agent, "git rev-parse beside").await, "left.txt");
    agent.stop().await.unwrap();
    let rescued: Vec<String> =
        world.remote.branches().into_iter().filter(|name| name.starts_with("session/x/")).collect();
    assert_eq!(rescued.len(), 4, "{rescued:?}");
    let tips: Vec<String> =
        rescued.iter().map(|name| world.remote.git(&["rev-parse", name])).collect();
    assert!(tips.contains(&branch));
    assert!(rescued.iter().any(|name| {
        let names = world.remote.git(&["ls-tree", "--name-only", name]);
        names.lines().any(|it| it == detached) && names.contains("detached.txt")
    }));
    let stashes = rescued
        .iter()
        .filter(|name| world.remote.git(&["log", "-1", "--format=%s", name]).starts_with("On x:"));
    assert_eq!(stashes.count(), 2);
}

#[tokio::test]
async fn a_conflict_under_way_keeps_the_machine() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "git switch -qc other; echo theirs > work.txt; git commit -qam theirs").await;
    sh(&agent, "git switch -q x; echo ours > work.txt; git commit -qam ours").await;
    assert_eq!(ran(&agent, "git merge other").await.exit_code(), 1);
    assert!(matches!(kept(agent.stop().await.unwrap_err()), GitError::Conflict { .. }));
    assert_eq!(told.take(), ["conflict", "commit_failed"]);
    agent.resume().await.unwrap();
    sh(&agent, "git merge --abort").await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_that_cannot_wait_writes_a_bundle() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(
        &agent,
        "echo committed > c.txt; git add .; git commit -qm c; echo stash >> c.txt; git stash -q",
    )
    .await;
    sh(&agent, "echo open >> work.txt; echo new > new.txt; git switch -q --detach").await;
    world.remote.set_down(true);
    let path = world.root("work.bundle");
    let file = tokio::fs::File::create(&path).await.unwrap();
    // The commit of what is open goes to the detached HEAD.
    let forced = agent.stop_within(Duration::from_secs(30), file).await.unwrap();
    assert_eq!(agent.state(), MachineState::Stopped);
    assert!(forced.saved.is_none() && matches!(forced.trouble, Some(GitError::Remote { .. })));
    let bundle = forced.bundle.unwrap();
    assert_eq!(bundle.bytes, std::fs::metadata(&path).unwrap().len());
    let names: Vec<_> = bundle.refs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["refs/heads/x", "refs/warren/head", "refs/warren/stash-2"]);
    assert_eq!(told.take(), ["committed", "push_failed", "stopping", "stopped"]);

    let clone = world.root("clone");
    git(
        clone.parent().unwrap(),
        &["clone", "--quiet", &world.remote.path().display().to_string(), "clone"],
    );
    git(&clone, &["fetch", "--quiet", &path.display().to_string(), "refs/*:refs/rescue/*"]);
    assert_eq!(git(&clone, &["show", "refs/rescue/heads/x:c.txt"]), "committed");
    assert_eq!(git(&clone, &["show", "refs/rescue/warren/head:work.txt"]), "first\nopen");
    assert_eq!(git(&clone, &["show", "refs/rescue/warren/head:new.txt"]), "new");
    assert_eq!(git(&clone, &["show", "refs/rescue/warren/stash-2:c.txt"]), "committed\nstash");
}

#[tokio::test]
async fn a_bundle_has_what_cannot_be_committed() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    assert_eq!(agent.bundle(tokio::io::sink()).await.unwrap(), None);
    sh(&agent, "git switch -qc other; echo theirs > work.txt; git commit -qam theirs").await;
    sh(&agent, "git switch -q x; echo ours > work.txt; git commit -qam ours").await;
    assert_eq!(ran(&agent, "git merge other").await.exit_code(), 1);
    agent.pause().await.unwrap();
    let path = world.root("work.bundle");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let bundle = agent.bundle(file).await.unwrap().unwrap();
    let names: Vec<_> = bundle.refs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["refs/heads/other", "refs/heads/x", "refs/warren/uncommitted"]);
    assert_eq!(state(&agent), "paused");
    git(&world.remote.path(), &["bundle", "verify", "--quiet", &path.display().to_string()]);
    git(
        &world.remote.path(),
        &["fetch", "--quiet", &path.display().to_string(), "refs/*:refs/rescue/*"],
    );
    let file = world.remote.git(&["show", "refs/rescue/warren/uncommitted:work.txt"]);
    assert!(file.contains("<<<<<<<"), "{file}");
    // Nothing of it stays in the machine.
    agent.resume().await.unwrap();
    assert_eq!(sh(&agent, "git for-each-ref refs/warren; ls .git/warren*; true").await, "");
    agent.discard().await.unwrap();
    assert_eq!(agent.state(), MachineState::Stopped);
}

#[tokio::test]
async fn a_bundle_that_cannot_be_written_keeps_the_machine() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "head -c 3000000 /dev/urandom > large").await;
    world.remote.set_down(true);
    let (full, _) = tokio::io::duplex(1);
    let error = agent.stop_within(Duration::from_secs(30), full).await.unwrap_err();
    assert!(matches!(kept(error), GitError::Bundle(_)));
    agent.resume().await.unwrap();
    world.remote.set_down(false);
    let forced = agent.stop_within(Duration::from_secs(60), tokio::io::sink()).await.unwrap();
    assert!(forced.saved.is_some() && forced.bundle.is_none());
}

#[tokio::test]
async fn a_remote_that_does_not_answer_holds_nobody_for_longer_than_was_said() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    world.remote.set_silent(true);
    let limit = Duration::from_secs(2);
    let forced = agent.stop_within(limit, tokio::io::sink()).await.unwrap();
    assert!(forced.bundle.is_some());
    let trouble = forced.trouble.unwrap();
    assert!(trouble.to_string().contains("took too long"), "{trouble}");
    assert_eq!(agent.state(), MachineState::Stopped);
}
