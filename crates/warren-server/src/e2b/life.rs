//! How long sandboxes live: connected to, paused, resumed, given more time.
//!
//! ```text
//!            connect: at least so long, 200
//!               |
//!   running ----+---- pause ------------> paused       frozen, with its memory
//!      ^        +---- pause, no memory -> stopped      its files alone: it boots anew
//!      |                                    |
//!      +---- connect, resume: 201 ----------+
//! ```

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use warren_core::{
    Caller, SandboxError, id::SandboxId, runtime::DeadlineAction, sandbox::Sandbox,
    state::State as SandboxState,
};

use super::{
    Refusal,
    extract::{Body, Came, Id, Team},
    shape::{self, Opened},
    wanted,
};
use crate::app::App;

/// How long a sandbox lives after a connect that does not say.
const CONNECTED: i64 = 300;
/// The same after a resume.
const RESUMED: i64 = 15;
/// The longest that a refresh may ask for, in seconds; what it is where nothing is said is less.
const LONGEST_REFRESH: u64 = 3600;
const REFRESHED: u64 = 15;
/// How long a request waits for somebody else's to be done with a sandbox.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an agent may take to answer before a pause that wants it to.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks what to do, after somebody else was quicker.
const TRIES: usize = 8;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WakeFields {
    timeout: Option<i64>,
    memory: Option<bool>,
    /// Of a resume alone: what happens at the end from now on.
    auto_pause: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PauseFields {
    memory: Option<bool>,
    require_healthy_guest: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TimeoutFields {
    timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RefreshFields {
    duration: Option<u64>,
}

/// The caller's sandbox, where these clients see one.
pub(super) fn find(app: &App, caller: &Caller, id: SandboxId) -> Result<Arc<Sandbox>, Refusal> {
    let found = app.sandboxes.get(caller, id.as_str());
    let found = found.ok().filter(|sandbox| shape::seen_as(sandbox).is_some());
    found.ok_or_else(|| Refusal::no_sandbox(id))
}

/// Has a sandbox run for at least so long: 200 where it did, 201 where it was resumed.
pub(super) async fn connect(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    Id(id): Id,
    Body(fields): Body<WakeFields>,
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    let length = wanted::lifetime(fields.timeout.unwrap_or(CONNECTED))?;
    let with_memory = fields.memory.unwrap_or(true);
    let wake = Wake { length, with_memory, auto_pause: None };
    let (sandbox, resumed) = wake.bring_up(&app, &caller, id).await?;
    app.samples().follow(&app, &caller, Some(id));
    let status = if resumed { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shape::opened(&app, &caller, came, &sandbox))))
}

/// Resumes a paused sandbox; one that runs is a conflict.
pub(super) async fn resume(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    Id(id): Id,
    Body(fields): Body<WakeFields>,
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    let length = wanted::lifetime(fields.timeout.unwrap_or(RESUMED))?;
    let running = || Refusal::conflict(format!("Sandbox {id} is already running"));
    if find(&app, &caller, id)?.state == SandboxState::Running {
        return Err(running());
    }
    let with_memory = fields.memory.unwrap_or(true);
    let wake = Wake { length, with_memory, auto_pause: fields.auto_pause };
    let (sandbox, resumed) = wake.bring_up(&app, &caller, id).await?;
    if !resumed {
        return Err(running());
    }
    app.samples().follow(&app, &caller, Some(id));
    Ok((StatusCode::CREATED, Json(shape::opened(&app, &caller, came, &sandbox))))
}

/// What a sandbox is to be when it has come up.
#[derive(Clone, Copy, Debug)]
struct Wake {
    length: Duration,
    /// Whether what was frozen goes on, and is not booted anew.
    with_memory: bool,
    /// Whether it is paused at its end from now on; as before where nothing is said.
    auto_pause: Option<bool>,
}

impl Wake {
    /// Gives the sandbox, and whether it was this request that resumed it.
    async fn bring_up(
        self,
        app: &App,
        caller: &Caller,
        id: SandboxId,
    ) -> Result<(Arc<Sandbox>, bool), Refusal> {
        for _ in 0..TRIES {
            let sandbox = find(app, caller, id)?;
            let done = match sandbox.state {
                SandboxState::Running => {
                    let name = id.as_str();
                    let left = app.sandboxes.set_time_left(caller, name, self.length, true).await;
                    left.map(|sandbox| (sandbox, false))
                }
                SandboxState::Pausing | SandboxState::Resuming | SandboxState::Starting => {
                    settle(app, id).await;
                    continue;
                }
                _ => self.wake(app, caller, &sandbox).await.map(|sandbox| (sandbox, true)),
            };
            match done {
                // Somebody else was quicker; what is to be done now may be something else.
                Err(SandboxError::Refused(_) | SandboxError::NotRunning { .. }) => {}
                Err(SandboxError::Ended { .. }) => return Err(Refusal::no_sandbox(id)),
                other => return Ok(other?),
            }
        }
        Err(Refusal::conflict(format!("Sandbox \"{id}\" is being changed by other requests")))
    }

    async fn wake(
        self,
        app: &App,
        caller: &Caller,
        sandbox: &Sandbox,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let (sandboxes, id) = (&app.sandboxes, sandbox.id.as_str());
        // Its time begins when it goes on.
        sandboxes.set_time_left(caller, id, self.length, true).await?;
        if let Some(action) = self.auto_pause.map(|pauses| at_end(pauses, sandbox)) {
            sandboxes.set_on_deadline(caller, id, action).await?;
        }
        let frozen = sandbox.state == SandboxState::Paused;
        if frozen && self.with_memory {
            return sandboxes.resume(caller, id).await;
        }
        if frozen {
            sandboxes.stop(caller, id).await?;
        }
        match sandboxes.start(caller, id).await {
            Ok(made) => Ok(made.sandbox),
            // Its files are its owner's, and it runs: what it starts is theirs to look at.
            Err(SandboxError::NotReady { .. }) => sandboxes.get(caller, id),
            Err(other) => Err(other),
        }
    }
}

/// What happens at the end of a sandbox that is to be paused then, or is not: with or without its
/// memory as before.
fn at_end(pauses: bool, sandbox: &Sandbox) -> DeadlineAction {
    match (pauses, sandbox.lifetime.action) {
        (false, _) => DeadlineAction::Kill,
        (true, DeadlineAction::Stop) => DeadlineAction::Stop,
        (true, DeadlineAction::Kill | DeadlineAction::Pause) => DeadlineAction::Pause,
    }
}

/// Waits until a sandbox is not on its way from one state to another any more.
async fn settle(app: &App, id: SandboxId) {
    let Some(visit) = app.sandboxes.visit(id) else { return };
    let mut published = visit.watch();
    let settled = published.wait_for(|sandbox| {
        use SandboxState as S;
        !matches!(sandbox.state, S::Pausing | S::Resuming | S::Starting)
    });
    // Whoever waits in vain looks again, and gives up at last.
    drop(tokio::time::timeout(PATIENCE, settled).await);
}

/// Pauses a running sandbox, with its memory unless that is not wanted or cannot be kept here.
pub(super) async fn pause(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    Body(fields): Body<PauseFields>,
) -> Result<StatusCode, Refusal> {
    let sandbox = find(&app, &caller, id)?;
    let paused = || Refusal::conflict(format!("Sandbox {id} is already paused"));
    if sandbox.state != SandboxState::Running {
        return Err(paused());
    }
    if fields.require_healthy_guest == Some(true) {
        let answers = app.sandboxes.check_agent(&caller, id.as_str(), AGENT_PATIENCE).await;
        answers.map_err(|error| {
            let message = format!("Sandbox {id} is not paused: {error}");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).never_again()
        })?;
    }
    let with_memory = fields.memory.unwrap_or(true) && app.sandboxes.runtime().1.pause;
    let done = match with_memory {
        true => app.sandboxes.pause(&caller, id.as_str()).await,
        false => app.sandboxes.stop(&caller, id.as_str()).await,
    };
    match done {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(SandboxError::Refused(_)) => Err(paused()),
        Err(other) => Err(other.into()),
    }
}

/// Gives a sandbox exactly so long from now on; with nothing, its end comes at once.
pub(super) async fn timeout(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    Body(fields): Body<TimeoutFields>,
) -> Result<StatusCode, Refusal> {
    let seconds = fields.timeout.map(u64::try_from);
    let Some(Ok(seconds)) = seconds else {
        return Err(Refusal::bad("timeout: expected seconds, 0 for an end at once"));
    };
    find(&app, &caller, id)?;
    let left = Duration::from_secs(seconds);
    app.sandboxes.set_time_left(&caller, id.as_str(), left, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a sandbox at least so long from now on.
pub(super) async fn refresh(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    Body(fields): Body<RefreshFields>,
) -> Result<StatusCode, Refusal> {
    let seconds = fields.duration.unwrap_or(REFRESHED);
    if seconds > LONGEST_REFRESH {
        let message = format!("duration: expected 0 to {LONGEST_REFRESH} seconds");
        return Err(Refusal::bad(message));
    }
    if find(&app, &caller, id)?.state != SandboxState::Running {
        return Err(Refusal::no_sandbox(id));
    }
    let left = Duration::from_secs(seconds);
    app.sandboxes.set_time_left(&caller, id.as_str(), left, true).await?;
    Ok(StatusCode::NO_CONTENT)
}
