//! What sandboxes use, as a series of samples.
//!
//! Clients ask for the past, so there is a task that looks every few seconds at those sandboxes
//! that clients of this API have made or come back to. It begins with the first of them; what it
//! saw is in memory alone, and begins anew with the server.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, extract::State};
use serde::Serialize;
use warren_api::Timestamp;
use warren_core::{
    Caller, caller::Owner, clock, id::SandboxId, runtime::Usage, sandbox::Sandbox,
    sandboxes::Filter, state::State as SandboxState,
};

use super::{
    Refusal,
    extract::{Id, Parameters, Team},
    life,
};
use crate::{app::App, convert::timestamp};

/// How often the task looks.
const EVERY: Duration = Duration::from_secs(5);
/// How many samples of one sandbox are kept: an hour of them.
const MOST: usize = 720;
/// How many of a team: a day's, one for each minute.
const MOST_OF_TEAM: usize = 1440;
/// How many sandboxes are looked at.
const MOST_SANDBOXES: usize = 2048;
/// How old the last sample may be that answers for now.
const FRESH: Duration = Duration::from_millis(900);
/// How many sandboxes one request may ask about.
const MOST_ASKED: usize = 100;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    begun: AtomicBool,
    series: Mutex<Series>,
}

#[derive(Debug, Default)]
struct Series {
    sandboxes: HashMap<SandboxId, Followed>,
    teams: HashMap<Owner, VecDeque<TeamSample>>,
}

#[derive(Debug)]
struct Followed {
    owner: Owner,
    samples: VecDeque<Sample>,
    /// When, and how much processor time it had used by then.
    last: Option<(clock::Timestamp, Duration)>,
}

/// What a sandbox used at some moment. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    timestamp: Timestamp,
    /// Seconds since 1970.
    timestamp_unix: u64,
    cpu_count: u32,
    /// Of all its processors, in hundredths.
    cpu_used_pct: f64,
    mem_used: u64,
    mem_total: u64,
    mem_cache: u64,
    disk_used: u64,
    disk_total: u64,
}

/// What a team had at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct TeamSample {
    pub(super) at: clock::Timestamp,
    /// How many sandboxes ran.
    pub(super) concurrent: usize,
    /// How many began since the sample before.
    pub(super) started: usize,
}

/// The samples of several sandboxes.
#[derive(Debug, Serialize)]
pub(super) struct OfMany {
    sandboxes: BTreeMap<String, Sample>,
}

impl Samples {
    /// Looks at this caller's team from now on, and at this sandbox.
    pub(super) fn follow(&self, app: &App, caller: &Caller, sandbox: Option<SandboxId>) {
        {
            let mut series = self.lock();
            series.teams.entry(caller.owner().clone()).or_default();
            if let Some(id) = sandbox
                && series.sandboxes.len() < MOST_SANDBOXES
            {
                let owner = caller.owner().clone();
                let new = Followed { owner, samples: VecDeque::new(), last: None };
                series.sandboxes.entry(id).or_insert(new);
            }
        }
        if !self.begun.swap(true, Ordering::AcqRel) {
            app.tasks().spawn(watch(app.clone()));
        }
    }

    /// What is known of a team, oldest first.
    pub(super) fn of_team(&self, owner: &Owner) -> Vec<TeamSample> {
        let series = self.lock();
        series.teams.get(owner).into_iter().flatten().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sample, unless there is a fresh one.
    fn add(&self, sandbox: &Sandbox, usage: &Usage, now: clock::Timestamp) {
        let mut series = self.lock();
        let Some(followed) = series.sandboxes.get_mut(&sandbox.id) else { return };
        if followed.last.is_some_and(|(at, _)| now.since(at) < FRESH) {
            return;
        }
        let sample = sample(sandbox, usage, now, followed.last);
        followed.last = Some((now, usage.cpu));
        if followed.samples.len() >= MOST {
            followed.samples.pop_front();
        }
        followed.samples.push_back(sample);
    }

    fn of_sandbox(&self, id: SandboxId) -> Vec<Sample> {
        let series = self.lock();
        series.sandboxes.get(&id).map(|it| it.samples.iter().cloned().collect()).unwrap_or_default()
    }
}

/// Looks at everything that is followed, until the server ends.
async fn watch(app: App) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.stopping().cancelled() => return,
            _ = ticks.tick() => {}
        }
        let followed: Vec<_> = {
            let series = app.samples().lock();
            series.sandboxes.iter().map(|(id, it)| (*id, it.owner.clone())).collect()
        };
        for (id, owner) in followed {
            if !look(&app, &Caller::remote(owner), id).await {
                app.samples().lock().sandboxes.remove(&id);
            }
        }
        count_teams(&app);
    }
}

/// Takes a sample of a sandbox that runs. Says whether it is still there.
async fn look(app: &App, caller: &Caller, id: SandboxId) -> bool {
    let Ok(sandbox) = life::find(app, caller, id) else { return false };
    if sandbox.state == SandboxState::Running
        && let Ok((sandbox, usage)) = app.sandboxes.usage(caller, id.as_str()).await
    {
        app.samples().add(&sandbox, &usage, app.sandboxes.now());
    }
    true
}

/// Counts what each team has, once a minute.
fn count_teams(app: &App) {
    let now = app.sandboxes.now();
    let mut series = app.samples().lock();
    for (owner, samples) in &mut series.teams {
        let last = samples.back().map(|sample| sample.at);
        if last.is_some_and(|last| now.since(last) < Duration::from_secs(60)) {
            continue;
        }
        samples.push_back(team_now(app, &Caller::remote(owner.clone()), last));
        if samples.len() > MOST_OF_TEAM {
            samples.pop_front();
        }
    }
}

/// What a team has now, and what began since `last`; in the last minute where there is none.
pub(super) fn team_now(app: &App, caller: &Caller, last: Option<clock::Timestamp>) -> TeamSample {
    let now = app.sandboxes.now();
    let filter = Filter { limit: usize::MAX, ..Filter::default() };
    let all = app.sandboxes.list(caller, &filter).sandboxes;
    let minute = clock::Timestamp::from_millis(now.as_millis().saturating_sub(60_000));
    let since = last.unwrap_or(minute);
    TeamSample {
        at: now,
        concurrent: all.iter().filter(|it| it.state == SandboxState::Running).count(),
        started: all.iter().filter(|it| it.created_at > since).count(),
    }
}

fn sample(
    sandbox: &Sandbox,
    usage: &Usage,
    now: clock::Timestamp,
    last: Option<(clock::Timestamp, Duration)>,
) -> Sample {
    let limits = &sandbox.spec.limits;
    // A guest that was started again counts anew.
    let (since, before) =
        last.filter(|(_, cpu)| *cpu <= usage.cpu).unwrap_or((sandbox.created_at, Duration::ZERO));
    let elapsed = now.since(since).as_secs_f64() * f64::from(limits.cpu_millis) / 1000.0;
    let used = usage.cpu.saturating_sub(before).as_secs_f64();
    let percent = if elapsed > 0.0 { (100.0 * used / elapsed).min(100.0) } else { 0.0 };
    Sample {
        timestamp: timestamp(now),
        timestamp_unix: now.as_millis() / 1000,
        cpu_count: limits.cpu_millis.div_ceil(1000),
        cpu_used_pct: (percent * 100.0).round() / 100.0,
        mem_used: usage.memory_bytes,
        mem_total: limits.memory_bytes,
        mem_cache: 0,
        disk_used: usage.disk_bytes.unwrap_or_default(),
        disk_total: limits.disk_bytes.unwrap_or_default(),
    }
}

/// What a sandbox used, between two moments in seconds since 1970.
pub(super) async fn of_one(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<Vec<Sample>>, Refusal> {
    let start = parameters.number::<u64>("start")?.unwrap_or_default();
    let end = parameters.number::<u64>("end")?.unwrap_or(u64::MAX);
    if start > end {
        return Err(Refusal::bad("start: expected a moment before the end"));
    }
    life::find(&app, &caller, id)?;
    app.samples().follow(&app, &caller, Some(id));
    look(&app, &caller, id).await;
    let mut samples = app.samples().of_sandbox(id);
    samples.retain(|sample| (start..=end).contains(&sample.timestamp_unix));
    Ok(Json(samples))
}

/// What several sandboxes use now; those that are not there are left out.
pub(super) async fn of_many(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<Json<OfMany>, Refusal> {
    let asked = parameters.every("sandbox_ids");
    if asked.is_empty() || asked.len() > MOST_ASKED {
        let message = format!("sandbox_ids: expected 1 to {MOST_ASKED} ids");
        return Err(Refusal::bad(message));
    }
    let mut sandboxes = BTreeMap::new();
    for id in asked {
        let Ok(known) = SandboxId::parse_label(id) else { continue };
        if life::find(&app, &caller, known).is_err() {
            continue;
        }
        app.samples().follow(&app, &caller, Some(known));
        look(&app, &caller, known).await;
        if let Some(sample) = app.samples().of_sandbox(known).pop() {
            sandboxes.insert(id.to_owned(), sample);
        }
    }
    Ok(Json(OfMany { sandboxes }))
}
