//! Bombs: what one sandbox uses up must be its own.

use std::time::{Duration, Instant};

use warren_api::{
    client::ClientError,
    sandbox::{CreateSandbox, ListSandboxes, Sandbox},
};

use super::{Attacker, Reached, Row, neighbour::Neighbour, shell};

const AREA: &str = "limits";

const MEMORY_BYTES: u64 = 64 << 20;
const PIDS: u32 = 64;
const OPEN_FILES: u32 = 64;

/// How long a neighbour may take to answer beside a bomb.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn attack(
    attacker: &Attacker<'_>,
    neighbour: &Neighbour,
) -> Result<Vec<Row>, ClientError> {
    let wanted = CreateSandbox {
        profile: Some(attacker.profile),
        memory_bytes: Some(MEMORY_BYTES),
        pids: Some(PIDS),
        open_files: Some(OPEN_FILES),
        ..CreateSandbox::default()
    };
    let bomb = attacker.range.make(wanted).await?;
    let mut rows = vec![attacker.row(AREA, "open_files", open_files(attacker, &bomb).await?)];
    // Here the limits are weaker, and it was said so.
    let weaker = bomb.warnings.iter().find(|warning| warning.contains("cgroup")).cloned();
    if let Some(why) = &weaker.or_else(|| attacker.lacks(&["head", "tail", "sleep"])) {
        let skip = |attack| Row::skipped(attacker.profile, AREA, attack, why);
        rows.extend(["memory_bomb", "processes", "fork_bomb"].map(skip));
        return Ok(rows);
    }
    rows.push(attacker.row(AREA, "memory_bomb", memory(attacker, &bomb).await?));
    rows.push(attacker.row(AREA, "processes", processes(attacker, &bomb).await?));
    rows.push(attacker.row(AREA, "fork_bomb", fork_bomb(attacker, &bomb, neighbour).await?));
    Ok(rows)
}

/// A process can neither have more files open nor raise its own limit.
async fn open_files(attacker: &Attacker<'_>, bomb: &Sandbox) -> Result<Reached, ClientError> {
    let line = "ulimit -Hn; (ulimit -Hn 100000) 2>/dev/null && echo raised; \
                i=3; while [ $i -lt 200 ]; do eval \"exec $i</dev/null\" || break; i=$((i+1)); done; echo opened $i";
    // The shell ends where it can open no more, so its last word is missing.
    let outcome = attacker.range.exec(bomb, shell(line, attacker.user)).await?;
    let expected = format!("{OPEN_FILES}\n");
    Ok(match outcome.stdout == expected {
        true => Vec::new(),
        false => vec![format!("{:?} where the limit is {OPEN_FILES}", outcome.stdout)],
    })
}

/// `tail` keeps a line that has no end. It is killed alone, and its sandbox says why.
async fn memory(attacker: &Attacker<'_>, bomb: &Sandbox) -> Result<Reached, ClientError> {
    let line = "head -c 600000000 /dev/zero | tail -n 1 > /dev/null";
    let outcome = attacker.range.exec(bomb, shell(line, attacker.user)).await?;
    let mut reached = Vec::new();
    if outcome.end.exit_code == 0 {
        reached.push("600 MB in memory".to_owned());
    }
    match outcome.end.out_of_memory {
        Some(it) if it.limit_bytes == MEMORY_BYTES => {}
        other => reached.push(format!("the end was reported as {other:?}")),
    }
    let alive = attacker.range.exec(bomb, shell("echo alive", attacker.user)).await?;
    reached
        .extend((alive.stdout != "alive\n").then(|| "the sandbox did not survive it".to_owned()));
    Ok(reached)
}

/// A shell ends when it cannot fork, before it says how often it has.
async fn processes(attacker: &Attacker<'_>, bomb: &Sandbox) -> Result<Reached, ClientError> {
    let line = "i=0; while [ $i -lt 300 ]; do sleep 5 & i=$((i+1)); done; echo $i; kill $(jobs -p)";
    let outcome = attacker.range.exec(bomb, shell(line, attacker.user)).await?;
    let forked: u32 = outcome.stdout.trim().parse().unwrap_or(0);
    Ok(match forked >= PIDS {
        true => vec![format!("{forked} processes where the limit is {PIDS}")],
        false => Vec::new(),
    })
}

/// While one sandbox does nothing but fork, another and the server answer.
async fn fork_bomb(
    attacker: &Attacker<'_>,
    bomb: &Sandbox,
    neighbour: &Neighbour,
) -> Result<Reached, ClientError> {
    let range = attacker.range;
    let mut request = shell("bomb() { bomb | bomb & }; bomb; sleep 2", attacker.user);
    request.timeout_ms = Some(2_000);
    let explosion = range.exec(bomb, request);
    let meanwhile = async {
        let mut reached = Vec::new();
        let start = Instant::now();
        for _ in 0..10 {
            let answer = range.exec(&neighbour.sandbox, shell("echo fine", attacker.user)).await;
            if answer.as_ref().map(|it| it.stdout.as_str()).ok() != Some("fine\n") {
                reached.push(format!("the other sandbox: {answer:?}"));
            }
            if let Err(error) = range.client.list_sandboxes(&ListSandboxes::default()).await {
                reached.push(format!("the server: {error}"));
            }
        }
        if start.elapsed() > PATIENCE {
            reached.push(format!("the other sandbox took {:?}", start.elapsed()));
        }
        reached
    };
    let (exploded, mut reached) = tokio::join!(explosion, meanwhile);
    // The agent may have been starved of processes; what counts is that nobody else was.
    drop(exploded);
    let removed = range.client.ensure_deleted(&bomb.id).await;
    reached.extend(removed.err().map(|error| format!("it cannot be removed: {error}")));
    Ok(reached)
}
