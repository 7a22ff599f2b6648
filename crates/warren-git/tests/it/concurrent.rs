//! Many at once: machines on one session, tasks on one machine.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use warren_git::{MachineState, PushOutcome};

use crate::world::{World, sh, state};

#[tokio::test]
async fn two_machines_push_to_one_session() {
    let world = World::new().await;
    let work = |machine: &'static str| {
        let world = &world;
        async move {
            let (agent, _) = world.started(machine, "x").await;
            for number in 0..4 {
                sh(&agent, &format!("echo {number} > {machine}-{number}.txt")).await;
                agent.commit(None).await.unwrap();
                let push = agent.push().await.unwrap();
                assert!(!matches!(push.outcome, PushOutcome::Nothing), "{push:?}");
            }
            agent.stop().await.unwrap();
        }
    };
    tokio::join!(work("a"), work("b"));
    // Every commit is on the session's branch, or on a rescue branch when the other was quicker each time.
    let all = world.remote.git(&["log", "--all", "--format=", "--name-only", "--diff-filter=A"]);
    for number in 0..4 {
        assert!(
            all.contains(&format!("a-{number}.txt")) && all.contains(&format!("b-{number}.txt"))
        );
    }
    let (agent, _) = world.started("c", "x").await;
    let files = sh(&agent, "ls a-* b-* | wc -l").await;
    assert!(files == "8" || world.remote.branches().len() > 2, "{files}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_at_once_take_turns() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    agent.pause().await.unwrap();
    let tasks = TaskTracker::new();
    let handles: Vec<_> = (0..6)
        .map(|number| {
            let agent = agent.clone();
            tasks.spawn(async move {
                match number % 3 {
                    0 => drop(agent.diff().await.unwrap()),
                    1 => drop(agent.push().await.unwrap()),
                    _ => drop(agent.commit(None).await.unwrap()),
                }
                assert_eq!(agent.state(), MachineState::Paused);
            })
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(state(&agent), "paused");
    let (one, two) = tokio::join!(agent.stop(), agent.stop());
    assert!(one.is_ok() && two.is_ok());
    let stops = told.names().iter().filter(|name| **name == "stopped").count();
    assert_eq!(stops, 1);
}

#[tokio::test]
async fn who_stops_waiting_stops_nothing() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    {
        let commit = agent.commit(Some("left alone"));
        // It is begun, and then nobody waits for it.
        assert!(tokio::time::timeout(Duration::ZERO, commit).await.is_err());
    }
    agent.settled().await;
    assert_eq!(told.take(), ["committed"]);
    agent.stop().await.unwrap();
    assert_eq!(world.remote.git(&["log", "-1", "--format=%s", "x"]), "left alone");
}

#[tokio::test]
async fn a_pause_waits_for_the_push_before_it() {
    let world = World::new().await;
    let (agent, told) = world.started("a", "x").await;
    sh(&agent, "echo second >> work.txt").await;
    agent.commit(None).await.unwrap();
    told.take();
    let push = agent.push();
    let pause = async {
        world.remote.request().await;
        agent.pause().await
    };
    let (push, pause) = tokio::join!(push, pause);
    push.unwrap();
    pause.unwrap();
    assert_eq!(told.take(), ["pushed", "paused"]);
}
