//! Commits and differences.

use warren_git::{Event, GitError};

use crate::world::{World, git, ran, sh, start};

#[tokio::test]
async fn a_commit_has_what_changed_and_nothing_is_none() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    assert_eq!(agent.commit(None).await.unwrap(), None);
    sh(&agent, "echo ignored > a.log").await;
    assert_eq!(agent.commit(None).await.unwrap(), None);
    sh(&agent, "echo 1 > 'a b'; rm work.txt; printf x > \"$(printf 'new\\nline')\"").await;
    let message = "it's \"$(touch owned)\" `id`\n\n# not a comment";
    let commit = agent.commit(Some(message)).await.unwrap().unwrap();
    assert_eq!(agent.hash().await.unwrap().as_deref(), Some(commit.sha.as_str()));
    assert_eq!(git(&world.repo("a"), &["log", "-1", "--format=%B"]), message);
    assert_eq!(git(&world.repo("a"), &["ls-files", "-z"]), ".gitignore\0a b\0new\nline\0");
    let event = Event::Committed { sha: commit.sha, message: message.to_owned() };
    assert_eq!(told.all(), [event]);
    for wrong in ["", " \n", "a\0b"] {
        assert!(matches!(agent.commit(Some(wrong)).await, Err(GitError::Message)));
    }
}

#[tokio::test]
async fn a_difference_leaves_what_is_staged_alone() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "echo staged > staged.txt; git add staged.txt; echo more >> work.txt").await;
    sh(&agent, "echo new > 'with space'; head -c 2000 /dev/urandom > binary; echo no > a.log")
        .await;
    sh(&agent, "printf x > \"$(printf 'new\\nline')\"").await;
    let before = sh(&agent, "git status --porcelain -z | tr '\\0' '|'").await;
    let diff = agent.diff().await.unwrap();
    assert_eq!(sh(&agent, "git status --porcelain -z | tr '\\0' '|'").await, before);
    assert!(!diff.truncated);

    // Applied elsewhere, it makes the same files.
    let patch = world.root("patch");
    std::fs::write(&patch, &diff.patch).unwrap();
    let other = world.root("other");
    git(
        world.root("a").parent().unwrap(),
        &["clone", "--quiet", &world.remote.path().display().to_string(), "other"],
    );
    git(&other, &["apply", "--index", &patch.display().to_string()]);
    sh(&agent, "git add --all").await;
    assert_eq!(git(&other, &["write-tree"]), sh(&agent, "git write-tree").await);
    assert!(world.repo("a").join(".git/index").exists());
    assert!(!world.repo("a").join(".git/warren.index").exists());
}

#[tokio::test]
async fn a_large_difference_is_cut() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "yes 0123456789 | head -c 20000000 > large").await;
    let diff = agent.diff().await.unwrap();
    assert!(diff.truncated && diff.patch.len() == 16 * 1024 * 1024);
    assert!(diff.text().starts_with("diff --git a/large b/large"));
}

#[tokio::test]
async fn hooks_may_refuse_a_commit_that_was_asked_for_but_no_checkpoint() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "printf '#!/bin/sh\\necho never >&2; exit 1' > .git/hooks/pre-commit").await;
    sh(&agent, "chmod +x .git/hooks/pre-commit; echo second >> work.txt").await;
    let error = agent.commit(None).await.unwrap_err();
    assert!(matches!(&error, GitError::Git { said, .. } if said == "never"), "{error}");
    assert_eq!(told.take(), ["commit_failed"]);
    agent.stop().await.unwrap();
    assert_eq!(told.take(), ["committed", "pushed", "stopping", "stopped"]);
}

#[tokio::test]
async fn a_lock_of_a_git_that_is_gone_is_removed() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt; : > .git/index.lock").await;
    assert!(agent.commit(None).await.unwrap().is_some());
    assert!(!world.repo("a").join(".git/index.lock").exists());
}

#[tokio::test]
async fn a_lock_of_a_git_that_works_is_waited_for() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    // A commit that waits in its hook holds the lock until there is a file.
    let hook = "#!/bin/sh\\n: > waiting.log\\nwhile [ ! -e go.log ]; do :; done";
    sh(&agent, &format!("printf '{hook}' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit"))
        .await;
    let inside =
        ran(&agent, "echo inside > inside.txt; git add inside.txt; git commit -qam inside");
    let outside = async {
        sh(&agent, "while [ ! -e waiting.log ]; do :; done; echo outside > outside.txt").await;
        let blocked = agent.commit(Some("outside"));
        let free = async { sh(&agent, ": > go.log").await };
        tokio::join!(blocked, free).0.unwrap().unwrap()
    };
    let (inside, commit) = tokio::join!(inside, outside);
    assert!(inside.success(), "{}", inside.stderr_text());
    assert_eq!(agent.hash().await.unwrap(), Some(commit.sha));
    let names = sh(&agent, "git log --format=%s -2").await;
    assert_eq!(names, "outside\ninside");
}

#[tokio::test]
async fn a_conflict_is_not_committed_and_what_was_solved_is() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "git switch -qc other; echo theirs > work.txt; git commit -qam theirs").await;
    sh(&agent, "git switch -q x; echo ours > work.txt; git commit -qam ours").await;
    assert_eq!(ran(&agent, "git merge other").await.exit_code(), 1);
    let error = agent.commit(None).await.unwrap_err();
    assert!(
        matches!(&error, GitError::Conflict { paths, .. } if paths == &["work.txt"]),
        "{error}"
    );
    assert_eq!(told.take(), ["conflict", "commit_failed"]);
    // Solved in favour of what was there, so that nothing but the merge itself is to be committed.
    sh(&agent, "git checkout --ours work.txt && git add work.txt").await;
    assert!(agent.commit(None).await.unwrap().is_some());
    assert_eq!(sh(&agent, "git log -1 --format=%P | wc -w").await, "2");
}

#[tokio::test]
async fn repositories_within_are_left_out_and_named() {
    let world = World::new().await;
    let (agent, _) = start(world.session("a", "x")).await;
    sh(&agent, "git init -q inner; cd inner; echo 1 > a; git add a; git commit -qm inner").await;
    assert_eq!(agent.commit(None).await.unwrap(), None);
    sh(&agent, "echo second >> work.txt").await;
    let commit = agent.commit(None).await.unwrap().unwrap();
    assert_eq!(commit.left_out, ["inner"]);
    assert_eq!(sh(&agent, "git ls-files").await, ".gitignore\nwork.txt");
    // Nobody could get it back, so the machine stays.
    let error = agent.stop().await.unwrap_err();
    let GitError::Kept { reason, .. } = &error else { panic!("{error}") };
    assert!(matches!(&**reason, GitError::Unsaved { what } if what == &["inner/"]), "{reason}");
    agent.resume().await.unwrap();
    sh(&agent, "echo /inner/ >> .gitignore").await;
    agent.stop().await.unwrap();
}
