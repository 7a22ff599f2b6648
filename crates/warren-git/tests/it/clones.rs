//! What is fetched: parts of histories, submodules, other places to begin at.

use warren_git::{CloneOptions, GitError};

use crate::world::{World, listened, sh, start};

#[tokio::test]
async fn histories_are_cut_and_work_is_pushed_all_the_same() {
    let world = World::new().await;
    for number in 0..5 {
        world.remote.commit("trunk", "count.txt", &number.to_string());
    }
    world.remote.git(&["branch", "unrelated", "trunk"]);
    let options = CloneOptions { depth: Some(2), single_branch: true, ..CloneOptions::default() };
    let (agent, _) = start(world.session("a", "x").clone_options(options.clone())).await;
    assert_eq!(
        sh(&agent, "git rev-list --count HEAD; git branch -r --list '*unrelated'").await,
        "2"
    );
    sh(&agent, "echo second >> work.txt").await;
    agent.stop().await.unwrap();

    let (agent, _) = start(world.session("b", "x").clone_options(options)).await;
    assert_eq!(sh(&agent, "cat work.txt; git rev-list --count HEAD").await, "first\nsecond\n2");
    world.remote.commit("x", "theirs.txt", "1");
    sh(&agent, "echo third >> work.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("x", "work.txt"), "first\nsecond\nthird");
    assert_eq!(world.remote.git(&["rev-list", "--count", "x"]), "10");
}

#[tokio::test]
async fn files_of_a_partial_clone_come_when_they_are_needed() {
    let world = World::new().await;
    world.remote.commit("trunk", "old.txt", "only in the past");
    world.remote.commit("trunk", "old.txt", "now");
    let options = CloneOptions { blobless: true, ..CloneOptions::default() };
    let (agent, _) = start(world.session("a", "x").clone_options(options)).await;
    let missing = "git rev-list --objects --all --missing=print | grep -c '^?'";
    assert_eq!(sh(&agent, missing).await, "1");
    assert_eq!(sh(&agent, "cat old.txt").await, "now");
    sh(&agent, "echo second >> work.txt").await;
    assert!(agent.diff().await.unwrap().text().contains("+second"));
    agent.commit(None).await.unwrap();
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "work.txt", "zeroth\nfirst\n");
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("x", "work.txt"), "zeroth\nfirst\nsecond");
}

#[tokio::test]
async fn a_session_begins_where_it_is_told_to() {
    let world = World::new().await;
    let old = world.remote.git(&["rev-parse", "trunk~1"]);
    world.remote.git(&["tag", "v1", "trunk~1"]);
    world.remote.commit("side/branch", "side.txt", "side");
    for (machine, reference) in [("a", "v1"), ("b", old.as_str())] {
        let (agent, _) = start(world.session(machine, machine).reference(reference)).await;
        assert_eq!(agent.hash().await.unwrap().as_deref(), Some(old.as_str()));
    }
    let (agent, _) = start(world.session("c", "c").reference("side/branch")).await;
    assert_eq!(sh(&agent, "cat side.txt").await, "side");
    let (agent, _) = start(world.plain("d").reference("side/branch")).await;
    assert_eq!(agent.branch().unwrap().as_str(), "side/branch");
    for reference in ["nowhere", "--upload-pack=id", "a..b", &"0".repeat(40)] {
        let (agent, _) = listened(world.session("e", "e").reference(reference));
        let error = agent.start().await.unwrap_err();
        let expected = matches!(&error, GitError::NoSuchRef(_) | GitError::Git { .. });
        assert!(expected || matches!(error, GitError::Remote { .. }), "{reference}: {error}");
        assert_eq!(std::fs::read_dir(world.root("e")).unwrap().count(), 0, "{reference}");
    }
}

#[tokio::test]
async fn objects_that_are_there_are_not_fetched() {
    let world = World::new().await;
    world.remote.commit("trunk", "large.txt", &"0123456789abcdef\n".repeat(20_000));
    let (first, _) = world.started("a", "a").await;
    first.stop().await.unwrap();
    let references = vec![world.repo("a").display().to_string(), "/no/such/place".to_owned()];
    let options = CloneOptions { references, ..CloneOptions::default() };
    let (agent, _) = start(world.session("b", "b").clone_options(options)).await;
    assert_eq!(
        sh(&agent, "git count-objects -v | grep -E '^(count|in-pack)'").await,
        "count: 0\nin-pack: 0"
    );
    sh(&agent, "echo second >> work.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("b", "work.txt"), "first\nsecond");
}

#[tokio::test]
async fn submodules_come_on_request_and_must_be_pushed_before() {
    let world = World::new().await;
    world.remote.add_repository("library.git");
    world.remote.commit_to("library.git", "trunk", "lib.txt", "one");
    // As somebody would who has it: by a relative address.
    let (maker, _) = world.started("maker", "trunk").await;
    let library = world.remote.path_of("library.git");
    sh(
        &maker,
        &format!(
            "git -c protocol.file.allow=always submodule --quiet add {} library",
            library.display()
        ),
    )
    .await;
    sh(&maker, "git config -f .gitmodules submodule.library.url ../library.git").await;
    maker.commit(None).await.unwrap();
    maker.push().await.unwrap();

    let (agent, _) = world.started("plain", "p").await;
    assert_eq!(sh(&agent, "ls library").await, "");
    agent.stop().await.unwrap();
    let options = CloneOptions { submodules: true, ..CloneOptions::default() };
    let (agent, _) = start(world.session("a", "x").clone_options(options)).await;
    assert_eq!(sh(&agent, "cat library/lib.txt").await, "one");
    sh(&agent, "cd library; git switch -qc work; echo two > lib.txt; git commit -qam two").await;
    // The commit of the submodule is nowhere but in the machine.
    let error = agent.stop().await.unwrap_err();
    assert!(matches!(error, GitError::Kept { .. }), "{error}");
    agent.resume().await.unwrap();
    sh(
        &agent,
        &format!(
            "cd library; git push -q {} work; git fetch -q {0} work:refs/remotes/origin/work",
            library.display()
        ),
    )
    .await;
    agent.stop().await.unwrap();
}

/// Large files need a server of their own, so what is tried here is what the machine's program for
/// them is asked for, and that it can get the credential.
#[tokio::test]
async fn large_files_come_and_go_by_their_own_program() {
    use std::os::unix::fs::PermissionsExt as _;

    let world = World::new().await;
    let bin = world.root("a").join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let (program, log) = (bin.join("git-lfs"), world.root("log"));
    let host = world.remote.url().replace("http://", "").replace("/repo.git", "");
    let ask = format!("printf 'protocol=http\\nhost={host}\\n\\n' | git credential fill");
    let script = format!(
        "#!/bin/sh\n[ $1 = install ] || {ask} | grep -c ^password= >> {0}\necho \"$@\" >> {0}\n",
        log.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let options = CloneOptions { lfs: true, ..CloneOptions::default() };
    let (agent, _) = start(world.session("a", "x").clone_options(options)).await;
    sh(&agent, "echo second >> work.txt").await;
    let commit = agent.commit(None).await.unwrap().unwrap();
    agent.stop().await.unwrap();
    let asked = std::fs::read_to_string(log).unwrap();
    let (url, sha) = (world.remote.url(), commit.sha);
    assert_eq!(asked, format!("install --local\n1\npull\n1\npush {url} {sha}\n"));
}
