//! Start, pause, resume, stop; hooks, events and commands in between.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use warren_git::{Command, Ended, GitError, Machine as _, MachineState, PushOutcome, RunOptions};

use crate::{
    directory::Directory,
    world::{Agent, World, listened, ran, sh, start, state, told_by},
};

#[tokio::test]
async fn a_session_goes_on_where_it_ended() {
    let world = World::new().await;
    let (agent, told) = listened(world.session("a", "feature"));
    assert_eq!((agent.id(), agent.state()), (None, MachineState::Idle));
    agent.start().await.unwrap();
    assert_eq!(sh(&agent, "git config user.email").await, "gitagent@machine");
    sh(&agent, "echo second >> work.txt; echo new > new.txt; echo no > no.log").await;
    let saved = agent.stop().await.unwrap();
    assert_eq!(saved.commit.unwrap().message, "auto: checkpoint");
    assert!(matches!(saved.push.unwrap().outcome, PushOutcome::Pushed { .. }));
    assert_eq!(told.names(), ["started", "committed", "pushed", "stopping", "stopped"]);
    assert_eq!(agent.state(), MachineState::Stopped);
    assert_eq!(world.remote.branches(), ["feature", "trunk"]);

    let (agent, _) = world.started("b", "feature").await;
    assert_eq!(
        sh(&agent, "cat work.txt new.txt; ls").await,
        "first\nsecond\nnew\nnew.txt\nwork.txt"
    );
    assert_eq!(sh(&agent, "git status --porcelain --branch").await, "## feature...origin/feature");
    assert_eq!(agent.hash().await.unwrap().unwrap(), world.remote.git(&["rev-parse", "feature"]));
    agent.stop().await.unwrap();
    assert_eq!(
        world.remote.git(&["log", "-1", "--format=%an <%ae>", "feature"]),
        "GitMachine <gitagent@machine>"
    );
}

#[tokio::test]
async fn without_a_session_the_default_branch_is_found_out() {
    let world = World::new().await;
    let (agent, told) = start(world.plain("a")).await;
    assert_eq!(agent.branch().unwrap().as_str(), "trunk");
    sh(&agent, "echo second >> work.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(told.names(), ["committed", "pushed", "stopping", "stopped"]);
    assert_eq!(world.remote.file("trunk", "work.txt"), "first\nsecond");
}

#[tokio::test]
async fn work_of_a_paused_machine_is_pushed_by_its_stop() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "feature").await;
    sh(&agent, "echo second >> work.txt").await;
    let saved = agent.pause().await.unwrap();
    assert!(saved.commit.is_some() && saved.push.is_none() && saved.trouble.is_none());
    assert_eq!(world.remote.branches(), ["trunk"]);
    let refused = agent.run("true", RunOptions::default()).await.unwrap_err();
    assert!(matches!(refused, GitError::State { state: MachineState::Paused, .. }));
    agent.stop().await.unwrap();
    assert_eq!(told.names(), ["committed", "paused", "pushed", "stopping", "stopped"]);
    assert_eq!(world.remote.file("feature", "work.txt"), "first\nsecond");
}

#[tokio::test]
async fn the_last_hook_of_a_paused_machine_runs_commands() {
    let world = World::new().await;
    let builder = world.session("a", "feature").on_end(|agent| async move {
        sh(&agent, "echo end > end.txt").await;
        Ok(())
    });
    let (agent, _) = start(builder).await;
    agent.pause().await.unwrap();
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("feature", "end.txt"), "end");
}

#[tokio::test]
async fn a_pause_pushes_where_it_was_told_to() {
    let world = World::new().await;
    let push_on = warren_git::PushOn { pause: true, stop: true };
    let (agent, told) = start(world.session("a", "feature").push_on(push_on)).await;
    sh(&agent, "echo second >> work.txt").await;
    agent.pause().await.unwrap();
    assert_eq!(told.take(), ["committed", "pushed", "paused"]);
    assert_eq!(world.remote.file("feature", "work.txt"), "first\nsecond");
    agent.resume().await.unwrap();
    world.remote.set_down(true);
    sh(&agent, "echo third >> work.txt").await;
    let saved = agent.pause().await.unwrap();
    assert!(matches!(saved.trouble, Some(GitError::Remote { .. })), "{saved:?}");
    assert_eq!(told.take(), ["resumed", "committed", "push_failed", "paused"]);
    assert_eq!(state(&agent), "paused");
}

#[tokio::test]
async fn git_wakes_a_paused_machine_and_puts_it_back() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "feature").await;
    sh(&agent, "echo second >> work.txt").await;
    agent.pause().await.unwrap();
    told.take();
    assert!(agent.diff().await.unwrap().patch.is_empty());
    assert!(agent.commit(None).await.unwrap().is_none());
    assert!(agent.hash().await.unwrap().is_some());
    agent.pull().await.unwrap();
    agent.push().await.unwrap();
    assert_eq!(told.take(), ["pulled", "pushed"]);
    assert_eq!(state(&agent), "paused");
    assert_eq!(agent.machine().state(), MachineState::Paused);
}

#[tokio::test]
async fn hooks_run_in_their_places_and_may_work_with_git() {
    let world = World::new().await;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let step = |name: &'static str| {
        let steps = Arc::clone(&steps);
        move |agent: Agent| {
            let steps = Arc::clone(&steps);
            async move {
                steps.lock().unwrap().push((name, agent.state()));
                let error = agent.stop().await.unwrap_err();
                assert!(matches!(error, GitError::InHook("stop")));
                sh(&agent, &format!("echo {name} >> hooks.txt")).await;
                agent.commit(Some(name)).await?;
                Ok(())
            }
        }
    };
    let builder = world.session("a", "feature");
    let builder = builder.on_start(step("start")).on_pause(step("pause"));
    let (agent, told) = listened(builder.on_resume(step("resume")).on_end(step("end")));
    agent.start().await.unwrap();
    agent.pause().await.unwrap();
    agent.resume().await.unwrap();
    agent.stop().await.unwrap();
    use MachineState::Running;
    let expected = ["start", "pause", "resume", "end"].map(|name| (name, Running));
    assert_eq!(*steps.lock().unwrap(), expected);
    let order = [
        "started",
        "committed",
        "committed",
        "paused",
        "committed",
        "resumed",
        "pushed",
        "stopping",
        "committed",
        "pushed",
        "stopped",
    ];
    assert_eq!(told.names(), order);
    assert_eq!(world.remote.file("feature", "hooks.txt"), "start\npause\nresume\nend");
}

#[tokio::test]
async fn a_hook_that_fails_leaves_no_machine_half_started() {
    let world = World::new().await;
    let (agent, _) = listened(world.session("a", "x").on_start(|_| async { Err("no".into()) }));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Hook { hook: "on_start", .. }), "{error}");
    assert_eq!(agent.state(), MachineState::Stopped);

    // What the hook has made is work.
    let (agent, _) = listened(world.session("b", "x").on_start(|agent| async move {
        sh(&agent, "echo made > made.txt").await;
        Err("no".into())
    }));
    let error = agent.start().await.unwrap_err();
    assert!(matches!(error, GitError::Kept { state: MachineState::Paused, .. }), "{error}");

    let (agent, _) = start(world.session("c", "x").on_end(|_| async { Err("no".into()) })).await;
    let error = agent.stop().await.unwrap_err();
    assert!(matches!(error, GitError::Hook { hook: "on_end", .. }), "{error}");
    assert_eq!(agent.state(), MachineState::Running);
}

#[tokio::test]
async fn a_machine_is_taken_over() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "feature").await;
    sh(&agent, "echo second >> work.txt").await;
    drop(agent);

    // The directory is a machine that runs for whoever makes it anew.
    let (agent, _) = world.started("a", "feature").await;
    assert_eq!(sh(&agent, "cat work.txt").await, "first\nsecond");
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("feature", "work.txt"), "first\nsecond");

    let error = world.session("a", "feature").connect().await.unwrap_err();
    assert!(matches!(error, GitError::State { state: MachineState::Idle, .. }), "{error}");

    let running = || async {
        let machine = Directory::new(world.root("a"));
        machine.start().await.unwrap();
        machine
    };
    let (builder, told) = told_by(world.on(running().await, "a").session("feature").unwrap());
    let agent = builder.connect().await.unwrap();
    assert_eq!(told.take(), ["reconnected"]);
    sh(&agent, "echo third >> work.txt").await;
    agent.stop().await.unwrap();
    assert_eq!(world.remote.file("feature", "work.txt"), "first\nsecond\nthird");

    sh(
        &{
            let (agent, _) = world.started("a", "feature").await;
            agent
        },
        "git remote set-url origin http://other/",
    )
    .await;
    let error = world.on(running().await, "a").connect().await.unwrap_err();
    assert!(matches!(error, GitError::OtherRepository { .. }), "{error}");
}

#[tokio::test]
async fn commands_have_an_environment_a_place_and_a_limit() {
    let world = World::new().await;
    let builder = world.session("a", "x").env("ONE", "1").env("TWO", "2");
    let (agent, _) = start(builder.timeout(Duration::from_secs(60))).await;
    agent.update([("TWO", "two"), ("THREE", "3")]);
    agent.unset(["ONE"]);
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (seen, code) = (Arc::clone(&shown), Arc::new(Mutex::new(None)));
    let kept = Arc::clone(&code);
    let options = RunOptions::default()
        .env("THREE", "three")
        .on_stdout(move |bytes| seen.lock().unwrap().extend_from_slice(bytes))
        .on_exit(move |exit| *kept.lock().unwrap() = Some(exit));
    let output = agent.run("echo $ONE-$TWO-$THREE; pwd; exit 3", options).await.unwrap();
    assert_eq!(output.stdout_text(), format!("-two-three\n{}\n", agent.path()));
    assert_eq!(*shown.lock().unwrap(), output.stdout);
    assert_eq!((output.exit_code(), *code.lock().unwrap()), (3, Some(3)));

    let words = Command::new(["printf", "%s", "$(id) `id`"]);
    assert_eq!(agent.run(words, RunOptions::default()).await.unwrap().stdout_text(), "$(id) `id`");
    let late = RunOptions::default().timeout(Duration::from_millis(50)).cwd("/");
    let output = agent.run("echo begun; exec cat /dev/zero >/dev/null", late).await.unwrap();
    assert_eq!((output.ended, output.exit_code()), (Ended::TimedOut, 124));
    let missing = Command::new(["no-such-program"]);
    assert_eq!(agent.run(missing, RunOptions::default()).await.unwrap().exit_code(), 127);

    let logs = agent.logs();
    let codes: Vec<_> = logs.iter().map(|entry| entry.result.exit_code()).collect();
    assert_eq!(codes, [3, 0, 124, 127]);
    assert_eq!(logs[1].argv[0], "printf");
}

#[tokio::test]
async fn output_is_kept_up_to_a_limit_and_shown_whole() {
    let world = World::new().await;
    let (agent, _) = world.started("a", "x").await;
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let options =
        RunOptions::default().on_stdout(move |bytes| *counter.lock().unwrap() += bytes.len());
    let line = Command::shell("head -c 3000000 /dev/zero").keep(1000);
    let output = agent.run(line, options).await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (1000, true));
    assert_eq!(*count.lock().unwrap(), 3_000_000);
    assert!(ran(&agent, "exit 1").await.ended == Ended::Exited(1));
}
