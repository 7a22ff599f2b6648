//! Odd repositories and odd names.

use warren_git::{ConfigError, GitError, GitMachine, Identity, MachineState};

use crate::{
    directory::Directory,
    world::{World, listened, sh, start},
};

#[tokio::test]
async fn a_session_may_have_the_name_of_a_file() {
    let world = World::new().await;
    world.remote.commit("trunk", "docs/a.md", "text");
    for (machine, session) in [("a", "work.txt"), ("b", "docs"), ("c", "docs-2/a.md")] {
        let (agent, _) = world.started(machine, session).await;
        assert_eq!(sh(&agent, "git symbolic-ref HEAD").await, format!("refs/heads/{session}"));
        sh(&agent, &format!("echo {machine} > made.txt")).await;
        agent.stop().await.unwrap();
        assert_eq!(world.remote.file(session, "made.txt"), machine);
        let (agent, _) = world.started(&format!("{machine}-again"), session).await;
        assert_eq!(sh(&agent, "cat made.txt").await, machine);
    }
}

#[tokio::test]
async fn names_are_never_read_by_a_shell() {
    let world = World::new().await;
    let session = "a;touch${IFS}owned&$(touch-owned)'\"`id`";
    let identity = Identity::new("$(touch owned) \"'", "a;b@c").unwrap();
    let (agent, _) = start(world.session("a", session).identity(identity)).await;
    sh(&agent, "echo 1 > made.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file(session, "made.txt"), "1");
    let author =
        world.remote.git(&["log", "-1", "--format=%an|%ae", &format!("refs/heads/{session}")]);
    // Git itself takes quotes at the end of a name away.
    assert_eq!(author, "$(touch owned)|a;b@c");
    for place in [world.root("a"), world.repo("a")] {
        assert!(!place.join("owned").exists());
    }
}

#[tokio::test]
async fn an_empty_repository_gets_its_first_commit() {
    let world = World::empty().await;
    let (agent, told) = world.started("a", "feature").await;
    assert_eq!(agent.hash().await.unwrap(), None);
    sh(&agent, "echo one > one.txt").await;
    assert!(agent.diff().await.unwrap().text().contains("+one"));
    let bundle = agent.bundle(tokio::io::sink()).await.unwrap().unwrap();
    assert_eq!(bundle.refs[0].0, "refs/warren/uncommitted");
    agent.stop().await.unwrap();
    assert_eq!(told.names(), ["committed", "pushed", "stopping", "stopped"]);
    assert_eq!(world.remote.file("feature", "one.txt"), "one");

    // The remote's HEAD names a branch that is not there.
    let (agent, _) = world.started("b", "feature").await;
    assert_eq!(sh(&agent, "cat one.txt").await, "one");
    let (agent, _) = listened(world.session("c", "other"));
    assert!(matches!(agent.start().await, Err(GitError::NoSuchRef(_))));
    let (agent, _) = start(world.session("d", "other").reference("feature")).await;
    agent.stop().await.unwrap();

    // Without a session, the branch is what the remote calls it.
    let world = World::empty().await;
    let (agent, _) = start(world.plain("a")).await;
    assert_eq!(agent.branch().unwrap().as_str(), "trunk");
    sh(&agent, "echo one > one.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(world.remote.branches(), ["trunk"]);
}

#[tokio::test]
async fn a_place_that_is_taken_is_not_touched() {
    let world = World::new().await;
    std::fs::create_dir_all(world.repo("a")).unwrap();
    std::fs::write(world.repo("a").join("mine.txt"), "mine").unwrap();
    let (agent, told) = listened(world.session("a", "x"));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Taken { .. }), "{error}");
    assert_eq!((told.names(), agent.state()), (vec![], MachineState::Stopped));
    assert_eq!(std::fs::read_to_string(world.repo("a").join("mine.txt")).unwrap(), "mine");

    // An empty directory, and what is left of a clone that was killed, are in nobody's way.
    std::fs::create_dir_all(world.repo("b")).unwrap();
    std::fs::create_dir_all(world.root("b").join("repo.cloning/.git")).unwrap();
    let (agent, _) = world.started("b", "x").await;
    assert_eq!(sh(&agent, "cat work.txt; ls ..").await, "first\nrepo");
}

#[test]
fn what_cannot_be_is_said_before_a_machine_is_made() {
    let builder = |url: &str| GitMachine::builder(Directory::new("/nowhere"), url);
    for wrong in ["", "git@host:a/b", "/a/b", "ssh://host/a", "ext::sh -c id", "https://u:p@host/a"]
    {
        assert!(matches!(builder(wrong), Err(ConfigError::Repository(_))), "{wrong}");
    }
    let good = || builder("https://git.example/a.git").unwrap();
    for wrong in ["", "-x", "a b", "a..b", "session/x", "a.lock", "@{-1}", "a\nb"] {
        assert!(matches!(good().session(wrong), Err(ConfigError::Session(_))), "{wrong}");
    }
    for wrong in ["", "a\nb"] {
        assert!(matches!(good().token(wrong), Err(ConfigError::Access(_))), "{wrong:?}");
    }
    for wrong in ["", "repo", "/", "/a/../b", "/a//b", "/a/"] {
        assert!(matches!(good().path(wrong), Err(ConfigError::Path)), "{wrong}");
    }
    for (name, email) in [("", "a@b"), ("a", ""), ("a<b", "a@b"), ("a\nb", "a@b"), ("...", "a@b")] {
        assert!(matches!(Identity::new(name, email), Err(ConfigError::Identity)), "{name:?}");
    }
}
