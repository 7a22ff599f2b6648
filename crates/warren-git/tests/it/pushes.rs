//! Pushes to a branch that has moved, and pulls.

use warren_git::{Event, GitError, OnMoved, PushOutcome};

use crate::world::{World, sh, start};

#[tokio::test]
async fn commits_are_put_on_top_of_what_others_have_pushed() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    agent.push().await.unwrap();
    world.remote.commit("x", "theirs.txt", "theirs");
    sh(&agent, "echo more >> ours.txt").await;
    agent.commit(None).await.unwrap();
    told.take();
    let push = agent.push().await.unwrap();
    let PushOutcome::Integrated { sha } = push.outcome else { panic!("{push:?}") };
    assert_eq!(told.take(), ["pushed"]);
    assert_eq!(world.remote.git(&["rev-parse", "x"]), sha);
    assert_eq!(world.remote.git(&["rev-list", "--count", "--merges", "x"]), "0");
    assert_eq!(sh(&agent, "cat ours.txt theirs.txt").await, "ours\nmore\ntheirs");
    assert_eq!(world.remote.git(&["log", "-1", "--format=%an", "x"]), "GitMachine");
    assert!(
        matches!(agent.push().await.unwrap().outcome, PushOutcome::Pushed { sha: it } if it == sha)
    );
}

#[tokio::test]
async fn or_merged_with_it() {
    let world = World::new().await;
    let (agent, _) = start(world.session("a", "x").on_moved(OnMoved::Merge)).await;
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "theirs.txt", "theirs");
    agent.push().await.unwrap();
    assert_eq!(world.remote.git(&["rev-list", "--count", "--merges", "x"]), "1");
    assert_eq!(world.remote.file("x", "theirs.txt"), "theirs");
}

#[tokio::test]
async fn what_does_not_go_together_is_rescued() {
    for on_moved in [OnMoved::Rebase, OnMoved::Merge] {
        let world = World::new().await;
        let (agent, told) = start(world.session("a", "x").on_moved(on_moved)).await;
        sh(&agent, "echo ours > work.txt").await;
        let ours = agent.commit(None).await.unwrap().unwrap().sha;
        world.remote.git(&["branch", "x", "trunk"]);
        let theirs = world.remote.commit("x", "work.txt", "theirs");
        told.take();
        let push = agent.push().await.unwrap();
        let PushOutcome::Rescued { sha, rescue, .. } = push.outcome else { panic!("{push:?}") };
        assert_eq!((sha, rescue.as_str()), (ours.clone(), "session/x/rescue-1"));
        assert_eq!(world.remote.git(&["rev-parse", "x"]), theirs);
        assert_eq!(world.remote.git(&["rev-parse", "session/x/rescue-1"]), ours);
        let events = told.all();
        assert!(matches!(&events[0], Event::Conflict { paths, .. } if paths == &["work.txt"]));
        assert!(matches!(&events[1], Event::PushFailed { rescue: Some(_), .. }), "{events:?}");
        // The machine is as it was: no merge under way, its own files.
        assert_eq!(sh(&agent, "cat work.txt; git status --porcelain").await, "ours");
        assert_eq!(agent.hash().await.unwrap(), Some(ours));

        // The same work is rescued once, more of it again.
        agent.push().await.unwrap();
        assert_eq!(world.remote.branches(), ["session/x/rescue-1", "trunk", "x"]);
        sh(&agent, "echo more >> work.txt").await;
        agent.stop().await.unwrap();
        let branches = ["session/x/rescue-1", "session/x/rescue-2", "trunk", "x"];
        assert_eq!(world.remote.branches(), branches);
    }
}

#[tokio::test]
async fn nothing_is_taken_in_by_policy_or_over_changes() {
    let world = World::new().await;
    let (agent, _) = start(world.session("a", "x").on_moved(OnMoved::Rescue)).await;
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "theirs.txt", "theirs");
    let push = agent.push().await.unwrap();
    assert!(matches!(push.outcome, PushOutcome::Rescued { .. }), "{push:?}");
    assert!(matches!(agent.pull().await, Err(GitError::Moved { .. })));

    let (agent, told) = world.started("b", "y").await;
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    world.remote.git(&["branch", "y", "trunk"]);
    world.remote.commit("y", "theirs.txt", "theirs");
    sh(&agent, "echo changed >> work.txt").await;
    told.take();
    assert!(matches!(agent.pull().await, Err(GitError::Moved { .. })));
    let push = agent.push().await.unwrap();
    assert!(matches!(push.outcome, PushOutcome::Rescued { .. }), "{push:?}");
    assert_eq!(told.take(), ["push_failed"]);
    assert_eq!(sh(&agent, "cat work.txt").await, "first\nchanged");
}

#[tokio::test]
async fn a_pull_goes_forward_or_mixes() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    // The remote does not have the branch yet.
    let pull = agent.pull().await.unwrap();
    assert_eq!(pull.before, pull.after);
    world.remote.git(&["branch", "x", "trunk"]);
    let theirs = world.remote.commit("x", "theirs.txt", "1");
    let pull = agent.pull().await.unwrap();
    assert_eq!(pull.after, Some(theirs));
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    world.remote.commit("x", "theirs.txt", "2");
    agent.pull().await.unwrap();
    assert_eq!(sh(&agent, "cat theirs.txt ours.txt").await, "2ours");
    let before = agent.hash().await.unwrap();
    agent.pull().await.unwrap();
    assert_eq!(agent.hash().await.unwrap(), before);
    assert_eq!(told.take(), ["pulled", "pulled", "committed", "pulled", "pulled"]);

    world.remote.commit("x", "ours.txt", "theirs");
    let error = agent.pull().await.unwrap_err();
    assert!(
        matches!(&error, GitError::Conflict { paths, .. } if paths == &["ours.txt"]),
        "{error}"
    );
    assert_eq!(told.take(), ["conflict"]);
    assert_eq!(sh(&agent, "cat ours.txt; git status --porcelain").await, "ours");
}

#[tokio::test]
async fn a_push_that_the_remote_refuses_says_why() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    world.remote.hook("pre-receive", "#!/bin/sh\necho 'branches are frozen' >&2\nexit 1\n");
    sh(&agent, "echo ours > ours.txt").await;
    agent.commit(None).await.unwrap();
    let error = agent.push().await.unwrap_err();
    let GitError::Refused { branch, reason } = &error else { panic!("{error}") };
    assert_eq!(branch, "x");
    assert!(reason.contains("pre-receive hook declined: branches are frozen"), "{reason}");
    assert_eq!(told.take(), ["committed", "push_failed"]);
}

#[tokio::test]
async fn a_push_without_a_branch_or_a_commit() {
    let world = World::new().await;
    let tip = world.remote.git(&["rev-parse", "trunk"]);
    let (agent, _) = start(world.plain("a").reference(tip)).await;
    assert_eq!(agent.branch(), None);
    assert!(matches!(agent.push().await, Err(GitError::NoBranch)));
    agent.stop().await.unwrap();

    let world = World::empty().await;
    let (agent, _) = world.started("a", "x").await;
    assert_eq!(agent.push().await.unwrap().outcome, PushOutcome::Nothing);
    agent.pull().await.unwrap();
    agent.stop().await.unwrap();
}
