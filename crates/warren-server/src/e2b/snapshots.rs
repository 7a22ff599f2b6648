//! Snapshots and forks.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use warren_core::{
    Caller,
    id::SandboxId,
    sandbox::Made,
    sandboxes::{WantedFork, WantedSnapshot},
    snapshots::Snapshot,
    state::State as SandboxState,
};

use super::{
    Refusal,
    extract::{Body, Came, Id, Parameters, Team},
    life,
    list::page_headers,
    names,
    shape::{self, Opened},
    wanted,
};
use crate::app::App;

/// How many forks one request may ask for.
const MOST_FORKS: u32 = 100;
/// How long a fork lives where nothing is said, in seconds.
const FORK_SECONDS: i64 = 15;
/// The most that a page has.
const PAGE: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ForkFields {
    count: Option<u32>,
    timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SnapshotFields {
    name: Option<String>,
}

/// One of the sandboxes that a fork was to make, or why there is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Forked {
    Sandbox(Opened),
    Error(Value),
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(rename = "snapshotID")]
    snapshot_id: String,
    names: Vec<String>,
}

/// Makes sandboxes of what a running one is. Where none can be made, the request fails.
pub(super) async fn fork(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    Id(id): Id,
    Body(fields): Body<ForkFields>,
) -> Result<(StatusCode, Json<Vec<Forked>>), Refusal> {
    let count = fields.count.unwrap_or(1);
    if !(1..=MOST_FORKS).contains(&count) {
        return Err(Refusal::bad(format!("count: expected 1 to {MOST_FORKS}")));
    }
    let lifetime = wanted::lifetime(fields.timeout.unwrap_or(FORK_SECONDS))?;
    if life::find(&app, &caller, id)?.state != SandboxState::Running {
        return Err(Refusal::conflict(format!("Sandbox {id} is paused")));
    }
    let wanted = WantedFork {
        count,
        with_env: true,
        with_exposure: true,
        lifetime: Some(lifetime),
        some_may_fail: true,
        ..WantedFork::default()
    };
    let forked = app.sandboxes.fork(&caller, id.as_str(), wanted).await?;
    let made = forked.made;
    equip(&app, &caller, id, &made).await?;
    for made in &made {
        app.samples().follow(&app, &caller, Some(made.sandbox.id));
    }
    let made = made.iter().map(|it| shape::opened(&app, &caller, came, &it.sandbox));
    let failed = forked.failed.into_iter().map(|error| Refusal::from(error).into_value());
    let all = made.map(Forked::Sandbox).chain(failed.map(Forked::Error));
    Ok((StatusCode::CREATED, Json(all.collect())))
}

/// Gives forks what requests of their parent are given: whoever forks it is its owner. Where that
/// fails there is no fork.
async fn equip(
    app: &App,
    caller: &Caller,
    parent: SandboxId,
    made: &[Made],
) -> Result<(), Refusal> {
    let given = app.sandboxes.credentials(caller, parent.as_str())?;
    if given.is_empty() {
        return Ok(());
    }
    for fork in made {
        let id = fork.sandbox.id;
        let set = app.sandboxes.set_credentials(caller, id.as_str(), (*given).clone()).await;
        if let Err(error) = set {
            for fork in made {
                let id = fork.sandbox.id;
                if let Err(error) = app.sandboxes.delete(caller, id.as_str()).await {
                    tracing::warn!(sandbox.id = %id, %error, "a fork is not removed");
                }
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// Saves what a sandbox's files are. A name that another snapshot has becomes this one's.
pub(super) async fn create(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    Body(fields): Body<SnapshotFields>,
) -> Result<(StatusCode, Json<Shown>), Refusal> {
    life::find(&app, &caller, id)?;
    let name = fields.name.filter(|name| !name.is_empty());
    let name = name.map(|name| native_name(&caller, &name)).transpose()?;
    let taken = name.clone().filter(|name| app.sandboxes.get_snapshot(&caller, name).is_ok());
    let free = name.filter(|_| taken.is_none());
    let wanted = WantedSnapshot { name: free, with_env: true, ..WantedSnapshot::default() };
    let (mut snapshot, _frozen) = app.sandboxes.snapshot(&caller, id.as_str(), wanted).await?;
    if let Some(name) = taken {
        let new = snapshot.id;
        match app.sandboxes.move_snapshot_name(&caller, &name, new.as_str()).await {
            Ok(named) => snapshot = named,
            Err(error) => {
                app.sandboxes.delete_snapshot(&caller, new.as_str()).await?;
                return Err(error.into());
            }
        }
    }
    Ok((StatusCode::CREATED, Json(shown(&caller, &snapshot))))
}

/// What the native API is to call a snapshot that a client names `[project/]alias[:tag]`.
fn native_name(caller: &Caller, text: &str) -> Result<String, Refusal> {
    let (name, tag) = names::parts(text);
    let name = match name.split_once('/') {
        Some((project, name)) if project == caller.owner().as_str() => name,
        Some((project, _)) => {
            return Err(Refusal::bad(format!("name: '{project}' is not your team's")));
        }
        None => name,
    };
    let letters = |text: &str, also: &[u8]| {
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || also.contains(&byte);
        !text.is_empty() && text.bytes().all(good)
    };
    if !letters(name, b"-_") || !tag.is_none_or(|tag| letters(tag, b"-_.")) {
        let message = "name: expected a-z, 0-9, `-` and `_`, and a tag behind a colon perhaps";
        return Err(Refusal::bad(message));
    }
    Ok(names::native(name, tag))
}

fn shown(caller: &Caller, snapshot: &Snapshot) -> Shown {
    let name = snapshot.name.as_ref().map(|name| names::theirs(caller, name));
    let unnamed = || format!("{}:{}", snapshot.id, names::DEFAULT_TAG);
    Shown { snapshot_id: name.clone().unwrap_or_else(unnamed), names: name.into_iter().collect() }
}

/// A page of snapshots, newest first.
pub(super) async fn list(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<(HeaderMap, Json<Vec<Shown>>), Refusal> {
    let limit = parameters.limit(PAGE)?;
    let sandbox = parameters.get("sandboxID").map(SandboxId::parse_label);
    // What is no id is nobody's.
    let Ok(sandbox) = sandbox.transpose() else { return Ok((page_headers(None), Json(vec![]))) };
    let mut found = app.sandboxes.snapshots(&caller, sandbox, None);
    if let Some(name) = parameters.get("name") {
        let wanted = names::snapshot(&app, &caller, name);
        found.retain(|snapshot| Some(snapshot.id) == wanted);
    }
    found.sort_unstable_by_key(|snapshot| std::cmp::Reverse((snapshot.created_at, snapshot.id)));
    if let Some(last) = parameters.get("nextToken") {
        let place = found.iter().position(|snapshot| snapshot.id.as_str() == last);
        let place = place.ok_or_else(|| Refusal::bad("nextToken: there is no such place"))?;
        found.drain(..=place);
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|snapshot| snapshot.id.to_string());
    let shown = found.iter().map(|snapshot| shown(&caller, snapshot)).collect();
    Ok((page_headers(next), Json(shown)))
}

/// Removes the snapshot that a text names, where it names one.
pub(super) async fn remove(app: &App, caller: &Caller, name: &str) -> Result<bool, Refusal> {
    let Some(id) = names::snapshot(app, caller, name) else { return Ok(false) };
    app.sandboxes.delete_snapshot(caller, id.as_str()).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_alias_with_a_tag_perhaps() {
        let caller = Caller::local();
        let native = |text: &str| native_name(&caller, text).ok();
        assert_eq!(native("a-b_1").as_deref(), Some("a-b_1"));
        assert_eq!(native("default/a:default").as_deref(), Some("a"));
        assert_eq!(native("a:v1.0").as_deref(), Some("a.v1.0"));
        for bad in ["", ":a", "a:", "A", "a.b", "other/a", "a b", "a:B", "a/b/c"] {
            assert_eq!(native(bad), None, "{bad}");
        }
    }
}
