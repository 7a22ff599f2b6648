//! Teams, which are projects, and their keys.
//!
//! Keys are made and revoked by the user who runs the server, as everywhere: a key that got out
//! must not be able to make itself others.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{
    Caller,
    access::{ApiKey, KeyScope, WantedKey},
};

use super::{
    Refusal,
    extract::{Body, Parameters, Segment, Team, shown_key},
    metrics::{self, TeamSample},
};
use crate::{app::App, convert::timestamp};

/// How the keys of these clients begin.
const PREFIX: &str = "e2b_";
/// How our own begin: the same digits behind either are the same key.
const OURS: &str = "wrn_";
/// How many digits follow.
const DIGITS: usize = 40;

/// A project.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(rename = "teamID")]
    team_id: String,
    name: String,
    /// The very key that was shown: of no other is anything kept but a hash.
    api_key: String,
    is_default: bool,
}

/// The team of whoever asks.
pub(super) async fn list(Team(caller): Team, headers: HeaderMap) -> Json<Vec<Shown>> {
    let name = caller.owner().as_str().to_owned();
    let api_key = shown_key(&headers);
    Json(vec![Shown { team_id: name.clone(), name, api_key, is_default: true }])
}

/// What a team had at some moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    timestamp: Timestamp,
    timestamp_unix: u64,
    concurrent_sandboxes: usize,
    /// Sandboxes a second.
    sandbox_start_rate: f64,
}

/// The most of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Most {
    timestamp: Timestamp,
    timestamp_unix: u64,
    value: f64,
}

/// What a team had between two moments in seconds since 1970, as far as this server has seen.
pub(super) async fn metrics(
    State(app): State<App>,
    Team(caller): Team,
    Segment(team): Segment,
    parameters: Parameters,
) -> Result<Json<Vec<Measured>>, Refusal> {
    Ok(Json(measured(&app, &caller, &team, &parameters)?))
}

/// The most that a team had of something between two moments.
pub(super) async fn most(
    State(app): State<App>,
    Team(caller): Team,
    Segment(team): Segment,
    parameters: Parameters,
) -> Result<Json<Most>, Refusal> {
    let value: fn(&Measured) -> f64 = match parameters.get("metric") {
        Some("concurrent_sandboxes") => |it| it.concurrent_sandboxes as f64,
        Some("sandbox_start_rate") => |it| it.sandbox_start_rate,
        _ => {
            let message = "metric: expected concurrent_sandboxes or sandbox_start_rate";
            return Err(Refusal::bad(message));
        }
    };
    let all = measured(&app, &caller, &team, &parameters)?;
    let most = all.iter().max_by(|one, other| value(one).total_cmp(&value(other)));
    let now = app.sandboxes.now();
    Ok(Json(match most {
        Some(most) => Most {
            timestamp: most.timestamp,
            timestamp_unix: most.timestamp_unix,
            value: value(most),
        },
        None => {
            Most { timestamp: timestamp(now), timestamp_unix: now.as_millis() / 1000, value: 0.0 }
        }
    }))
}

fn measured(
    app: &App,
    caller: &Caller,
    team: &str,
    parameters: &Parameters,
) -> Result<Vec<Measured>, Refusal> {
    if team != caller.owner().as_str() {
        let message = "You (or your team) don't have access to this team's metrics";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    }
    let start = parameters.number::<u64>("start")?.unwrap_or_default();
    let end = parameters.number::<u64>("end")?.unwrap_or(u64::MAX);
    app.samples().follow(app, caller, None);
    let mut samples = app.samples().of_team(caller.owner());
    let last = samples.last().map(|sample| sample.at);
    samples.push(metrics::team_now(app, caller, last));
    let mut before = None;
    let mut all = Vec::new();
    for TeamSample { at, concurrent, started } in samples {
        let seconds = before.map_or(Duration::from_secs(60), |before| at.since(before));
        before = Some(at);
        let seconds = seconds.as_secs_f64().max(1.0);
        let rate = started as f64 / seconds;
        let timestamp_unix = at.as_millis() / 1000;
        if (start..=end).contains(&timestamp_unix) {
            all.push(Measured {
                timestamp: timestamp(at),
                timestamp_unix,
                concurrent_sandboxes: concurrent,
                sandbox_start_rate: (rate * 1000.0).round() / 1000.0,
            });
        }
    }
    Ok(all)
}

/// A key that is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct KeyFields {
    name: String,
}

/// A key without what opens anything.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    id: String,
    name: String,
    mask: Mask,
    created_at: Timestamp,
    last_used: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mask {
    prefix: &'static str,
    value_length: usize,
    masked_value_prefix: String,
    masked_value_suffix: String,
}

/// A new key, with what opens: it is told this once.
#[derive(Debug, Serialize)]
pub(super) struct NewKey {
    #[serde(flatten)]
    about: Key,
    key: String,
}

fn key(key: &ApiKey) -> Key {
    let shown = key.prefix.strip_prefix(OURS).unwrap_or_default();
    Key {
        id: key.id.to_string(),
        name: key.name.clone(),
        mask: Mask {
            prefix: PREFIX,
            value_length: DIGITS,
            masked_value_prefix: shown.to_owned(),
            masked_value_suffix: String::new(),
        },
        created_at: timestamp(key.created_at),
        last_used: key.last_used_at.map(timestamp),
    }
}

/// The keys of a team.
pub(super) async fn keys(
    State(app): State<App>,
    Team(caller): Team,
) -> Result<Json<Vec<Key>>, Refusal> {
    let mut keys = app.sandboxes.keys(&caller)?;
    keys.retain(|key| is_of(key, &caller));
    Ok(Json(keys.iter().map(key).collect()))
}

fn is_of(key: &ApiKey, caller: &Caller) -> bool {
    matches!(&key.scope, KeyScope::Project(name) if name.owner() == *caller.owner())
}

pub(super) async fn create_key(
    State(app): State<App>,
    Team(caller): Team,
    Body(fields): Body<KeyFields>,
) -> Result<(StatusCode, Json<NewKey>), Refusal> {
    let project = caller.owner().as_str().parse();
    let project = project.map_err(|_odd| Refusal::bad("this team can have no keys"))?;
    let scope = KeyScope::Project(project);
    let wanted = WantedKey { name: fields.name, scope, lifetime: None };
    let (about, secret) = app.sandboxes.create_key(&caller, wanted).await?;
    let digits = secret.expose().strip_prefix(OURS).unwrap_or_default();
    let new = NewKey { about: key(&about), key: format!("{PREFIX}{digits}") };
    Ok((StatusCode::CREATED, Json(new)))
}

/// The team's key of this id.
fn find_key(app: &App, caller: &Caller, id: &str) -> Result<ApiKey, Refusal> {
    let keys = app.sandboxes.keys(caller)?;
    let found = keys.into_iter().find(|key| key.id.as_str() == id && is_of(key, caller));
    found.ok_or_else(|| Refusal::not_found(format!("API key '{id}' not found")))
}

pub(super) async fn delete_key(
    State(app): State<App>,
    Team(caller): Team,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    let key = find_key(&app, &caller, &id)?;
    app.sandboxes.revoke_key(&caller, &id).await?;
    app.end_streams_of(key.id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rename_key(
    State(app): State<App>,
    Team(caller): Team,
    Segment(id): Segment,
    Body(fields): Body<KeyFields>,
) -> Result<StatusCode, Refusal> {
    find_key(&app, &caller, &id)?;
    app.sandboxes.rename_key(&caller, &id, &fields.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
