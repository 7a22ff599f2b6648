//! What a repository and what runs inside can make git do.

use crate::world::{World, git, sh, start};

#[tokio::test]
async fn attributes_of_a_repository_run_nothing_by_themselves() {
    let world = World::new().await;
    let attributes = "* filter=evil diff=evil merge=evil\n";
    world.remote.commit("trunk", ".gitattributes", attributes);
    let (agent, _) = world.started("a", "x").await;
    // Drivers are named by settings, and those are of whoever runs inside: they run there.
    let mark = world.root("a").join("ran");
    let run = format!("touch {}; cat", mark.display());
    sh(&agent, &format!("git config diff.evil.textconv '{run}'; git config diff.external '{run}'"))
        .await;
    sh(&agent, "echo second >> work.txt").await;
    let diff = agent.diff().await.unwrap();
    assert!(diff.text().contains("+second"), "{}", diff.text());
    assert!(!mark.exists());
}

#[tokio::test]
async fn settings_inside_do_not_change_what_a_command_means() {
    let world = World::new().await;
    let (agent, _) = start(world.session("a", "x")).await;
    for setting in [
        "push.default nothing",
        "push.followTags true",
        "color.ui always",
        "color.status always",
        "status.branch true",
        "status.short true",
        "status.showUntrackedFiles no",
        "diff.noprefix true",
        "diff.mnemonicPrefix true",
        "commit.gpgSign true",
        "gpg.program false",
        "core.quotePath false",
        "core.pager false",
        "core.editor false",
        "core.hooksPath /nowhere",
        "rebase.autoSquash true",
        "pull.ff only",
        "merge.ff false",
        "user.name other",
        "log.showSignature true",
        "format.pretty oneline",
        "branch.x.merge refs/heads/elsewhere",
        "remote.origin.push refs/heads/x:refs/heads/elsewhere",
        "submodule.recurse true",
        "fetch.prune true",
    ] {
        sh(&agent, &format!("git config {setting}")).await;
    }
    sh(&agent, "echo second >> work.txt; echo new > new.txt; git tag local").await;
    let diff = agent.diff().await.unwrap().text();
    assert!(diff.contains("+++ b/new.txt") && !diff.contains('\u{1b}'), "{diff}");
    agent.commit(None).await.unwrap().unwrap();
    world.remote.git(&["branch", "x", "trunk"]);
    world.remote.commit("x", "theirs.txt", "1");
    agent.push().await.unwrap();
    world.remote.commit("x", "theirs.txt", "2");
    agent.pull().await.unwrap();
    agent.stop().await.unwrap();
    assert_eq!(world.remote.branches(), ["trunk", "x"]);
    assert_eq!(world.remote.git(&["tag"]), "");
    assert_eq!(git(&world.remote.path(), &["log", "-2", "--format=%an", "x"]), "other\nGitMachine");
}

#[tokio::test]
async fn variables_of_the_user_do_not_reach_git() {
    let world = World::new().await;
    let builder =
        world.session("a", "x").env("GIT_DIR", "/nowhere").env("GIT_AUTHOR_NAME", "other");
    let (agent, _) = start(builder).await;
    agent.unset(["GIT_DIR"]);
    sh(&agent, "echo second >> work.txt").await;
    agent.update([("GIT_DIR", "/nowhere")]);
    agent.commit(None).await.unwrap().unwrap();
    agent.stop().await.unwrap();
    assert_eq!(world.remote.git(&["log", "-1", "--format=%an", "x"]), "GitMachine");
}
