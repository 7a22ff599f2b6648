//! Where the token is, and where it is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use warren_git::{
    Access, AccessError, Anonymous, BranchName, Builder, Credential, GitError, GitMachine, Grant,
    MachineState, RemoteFault, Rewritten, Right, Wanted,
    wire::{PushRight, Rights},
};

use crate::{
    directory::Directory,
    remote::{Remote, TOKEN},
    world::{World, holds, listened, ran, sh, start},
};

#[tokio::test]
async fn the_token_is_in_no_file_argument_or_environment() {
    let world = World::new().await;
    world.remote.watch();
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "theirs.txt", "1");
    agent.pause().await.unwrap();
    agent.push().await.unwrap();
    agent.pull().await.unwrap();
    agent.stop().await.unwrap();
    let seen = world.remote.seen();
    assert!(seen.iter().any(|it| it.authorization.is_some()), "{seen:?}");
    for request in &seen {
        assert_eq!(request.leaks, [""; 0], "{}", request.path);
    }
    assert_eq!(holds(&world.root("a"), TOKEN.as_bytes()), None);
    let config = std::fs::read_to_string(world.repo("a").join(".git/config")).unwrap();
    assert!(config.contains(&world.remote.url()), "{config}");
}

#[tokio::test]
async fn hooks_and_helpers_of_the_repository_do_not_get_it() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    let log = world.root("stolen");
    let steal = format!("cat >> {0}; cat <&3 >> {0}", log.display());
    for hook in ["pre-push", "post-merge", "pre-rebase", "reference-transaction", "post-checkout"] {
        sh(
            &agent,
            &format!(
                "printf '#!/bin/sh\\n{steal}' > .git/hooks/{hook}; chmod +x .git/hooks/{hook}"
            ),
        )
        .await;
    }
    sh(&agent, &format!("git config credential.helper '!f() {{ {steal}; }}; f'")).await;
    sh(&agent, &format!("git config core.fsmonitor '{steal}'")).await;
    sh(&agent, "echo second >> work.txt").await;
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "theirs.txt", "1");
    agent.pause().await.unwrap();
    agent.push().await.unwrap();
    agent.pull().await.unwrap();
    assert!(holds(world.root("a").parent().unwrap(), TOKEN.as_bytes()).is_none());
}

#[tokio::test]
async fn no_other_server_is_told_it() {
    let world = World::new().await;
    let other = Remote::start().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    agent.commit(None).await.unwrap();
    let host = |url: String| url.trim_end_matches("repo.git").to_owned();
    let (here, there) = (host(world.remote.url()), host(other.url()));
    sh(&agent, &format!("git config url.{there}.insteadOf {here}")).await;
    let error = agent.push().await.unwrap_err();
    assert!(matches!(error, GitError::Remote { fault: RemoteFault::Denied, .. }), "{error}");
    let seen = other.seen();
    assert!(!seen.is_empty() && seen.iter().all(|it| it.authorization.is_none()), "{seen:?}");
    // What `origin` means makes no difference.
    sh(
        &agent,
        &format!(
            "git config --unset url.{there}.insteadOf; git config remote.origin.url {}",
            other.url()
        ),
    )
    .await;
    agent.push().await.unwrap();
    assert_eq!(other.seen().len(), seen.len());
}

#[tokio::test]
async fn a_wrong_token_is_told_from_other_faults() {
    let world = World::new().await;
    let wrong = "wr0ng-token";
    let (agent, told) = listened(world.session("a", "x").token(wrong).unwrap());
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Remote { fault: RemoteFault::Denied, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(wrong));
    assert_eq!((told.names(), agent.state()), (vec![], MachineState::Stopped));

    let (agent, _) = listened(world.session("b", "x").access(Anonymous));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Remote { fault: RemoteFault::Denied, .. }), "{error}");

    world.remote.set_down(true);
    let (agent, _) = listened(world.session("c", "x"));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Remote { fault: RemoteFault::Unreachable, .. }), "{error}");
    world.remote.set_down(false);

    std::fs::rename(world.remote.path(), world.remote.path_of("gone.git")).unwrap();
    let (agent, _) = listened(world.session("d", "x"));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Remote { fault: RemoteFault::NotFound, .. }), "{error}");
}

/// Credentials that are good once each, and count who asked for what.
#[derive(Default)]
struct ShortLived {
    reads: AtomicUsize,
    writes: AtomicUsize,
}

#[async_trait::async_trait]
impl Access for &'static ShortLived {
    async fn grant(&self, wanted: &Wanted<'_>) -> Result<Grant, AccessError> {
        let count = if wanted.right == Right::Read { &self.reads } else { &self.writes };
        if count.fetch_add(1, Ordering::SeqCst) >= 2 {
            return Err(AccessError::Source("the source is dry".into()));
        }
        Ok(Grant::Credential(Credential::new("x-access-token", TOKEN)?))
    }
}

#[tokio::test]
async fn access_is_asked_for_before_every_command() {
    let world = World::new().await;
    let access: &'static ShortLived = Box::leak(Box::default());
    let (agent, _) = start(world.session("a", "x").access(access)).await;
    for _ in 0..2 {
        agent.push().await.unwrap();
    }
    assert!(matches!(agent.push().await, Err(GitError::Access(AccessError::Source(_)))));
    assert_eq!(access.reads.load(Ordering::SeqCst), 1);
}

/// A machine whose repository is at an address that nobody answers but by a broker.
fn behind(world: &World, machine: &str, broker: &str) -> Builder<Directory> {
    let directory = Directory::new(world.root(machine));
    let builder = GitMachine::builder(directory, "https://git.invalid/repo.git").unwrap();
    let builder = builder.path(world.repo(machine).display().to_string()).unwrap();
    builder.session("x").unwrap().access(Rewritten::new(broker))
}

#[tokio::test]
async fn with_a_broker_the_machine_needs_no_credential() {
    let world = World::new().await;
    let broker = world.remote.url().replace("repo.git", "");
    let session = BranchName::session("x").unwrap();
    world.remote.let_in(Rights::new("/repo.git", PushRight::Session(session)));
    let (agent, told) = listened(behind(&world, "a", &broker));
    agent.start().await.unwrap();
    sh(&agent, "echo ours > work.txt").await;
    agent.commit(None).await.unwrap();
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "work.txt", "theirs");
    agent.push().await.unwrap();
    // What runs inside gets as far as the session goes, and no further.
    let push = format!("git -c url.{broker}.insteadOf=https://git.invalid/ push -q origin");
    sh(&agent, &format!("{push} --force HEAD:x")).await;
    for refs in ["HEAD:trunk", "HEAD:other", "HEAD:refs/tags/v1", ":x", ":session/x/rescue-1"] {
        let output = ran(&agent, &format!("{push} {refs}")).await;
        assert!(output.stderr_text().contains("403"), "{refs}: {}", output.stderr_text());
    }
    agent.stop().await.unwrap();
    assert_eq!(told.names()[1..4], ["committed", "conflict", "push_failed"]);
    assert_eq!(world.remote.branches(), ["session/x/rescue-1", "trunk", "x"]);
    assert!(world.remote.seen().iter().all(|it| it.authorization.is_none()));

    world.remote.let_in(Rights::new("repo", PushRight::Nothing));
    let (agent, _) = start(behind(&world, "b", &broker)).await;
    sh(&agent, "echo more >> work.txt").await;
    let error = agent.stop().await.unwrap_err();
    let GitError::Kept { reason, .. } = error else { panic!("{error}") };
    assert!(matches!(*reason, GitError::Remote { fault: RemoteFault::Denied, .. }), "{reason}");

    world.remote.let_in(Rights::new("other", PushRight::Nothing));
    let (agent, _) = listened(behind(&world, "c", &broker));
    assert!(matches!(agent.start().await, Err(GitError::Remote { .. })));
}

#[tokio::test]
async fn a_broker_is_spoken_with_by_http_alone() {
    let world = World::new().await;
    let broker = format!("file://{}/", world.remote.path().parent().unwrap().display());
    let (agent, _) = listened(behind(&world, "a", &broker));
    let error = agent.start().await.unwrap_err();
    assert!(error.to_string().contains("transport 'file' not allowed"), "{error}");
}
