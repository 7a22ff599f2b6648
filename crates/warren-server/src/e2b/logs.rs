//! What the detached commands of sandboxes wrote, in both forms that clients read.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use warren_api::Timestamp;
use warren_core::{
    Caller,
    id::SandboxId,
    logs::{LogEntry, LogQuery, LogSource},
};

use super::{
    Refusal,
    extract::{Id, Parameters, Team},
    life,
};
use crate::{app::App, convert::timestamp};

/// The most that an answer has, and what it has where nothing is said.
const MOST: usize = 1000;
/// How many entries core gives at once.
const PAGE: u32 = 1000;
/// The levels, the least important first.
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
/// What writes all of this.
const LOGGER: &str = "process";

/// An entry with what is known of it.
#[derive(Debug, Serialize)]
struct Entry {
    timestamp: Timestamp,
    message: String,
    level: &'static str,
    fields: BTreeMap<&'static str, String>,
}

/// The same as a line, which is JSON itself.
#[derive(Debug, Serialize)]
struct Line {
    timestamp: Timestamp,
    line: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogsV1 {
    logs: Vec<Line>,
    log_entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
pub(super) struct LogsV2 {
    logs: Vec<Entry>,
}

/// The entries from a moment on, oldest first.
pub(super) async fn v1(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<LogsV1>, Refusal> {
    let start = parameters.number::<u64>("start")?.unwrap_or_default();
    let limit = parameters.limit(MOST)?;
    let mut entries = read(&app, &caller, id).await?;
    entries.retain(|entry| entry.timestamp.unix_ms() >= start);
    entries.truncate(limit);
    let logs = entries.iter().map(line).collect();
    Ok(Json(LogsV1 { logs, log_entries: entries }))
}

/// The entries before a moment, or from it on.
pub(super) async fn v2(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
    parameters: Parameters,
) -> Result<Json<LogsV2>, Refusal> {
    let cursor = parameters.number::<u64>("cursor")?;
    let limit = parameters.limit(MOST)?;
    let backward = match parameters.get("direction") {
        None | Some("backward") => true,
        Some("forward") => false,
        Some(_) => return Err(Refusal::bad("direction: expected forward or backward")),
    };
    let least = parameters.get("level").map(rank).transpose()?;
    let mut entries = read(&app, &caller, id).await?;
    entries.retain(|entry| {
        let at = entry.timestamp.unix_ms();
        cursor.is_none_or(|cursor| if backward { at <= cursor } else { at >= cursor })
            && least.is_none_or(|least| rank(entry.level).is_ok_and(|rank| rank >= least))
            && parameters.get("search").is_none_or(|text| entry.message.contains(text))
    });
    if backward {
        entries.reverse();
    }
    entries.truncate(limit);
    Ok(Json(LogsV2 { logs: entries }))
}

fn rank(level: &str) -> Result<usize, Refusal> {
    let rank = LEVELS.iter().position(|known| *known == level);
    rank.ok_or_else(|| Refusal::bad("level: expected debug, info, warn or error"))
}

/// All that is kept, which is a few MiB at most.
async fn read(app: &App, caller: &Caller, id: SandboxId) -> Result<Vec<Entry>, Refusal> {
    life::find(app, caller, id)?;
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let query = LogQuery { after, exec: None };
        let page = app.sandboxes.logs(caller, id.as_str(), query, PAGE).await?;
        entries.extend(page.iter().map(entry));
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.seq,
            _ => return Ok(entries),
        }
    }
}

fn entry(entry: &LogEntry) -> Entry {
    let (level, stream) = match entry.source {
        LogSource::Stdout => ("info", "stdout"),
        LogSource::Stderr => ("warn", "stderr"),
        LogSource::Terminal => ("info", "pty"),
        LogSource::System => ("info", "system"),
    };
    let message = String::from_utf8_lossy(&entry.data);
    let fields = [
        ("logger", LOGGER.to_owned()),
        ("stream", stream.to_owned()),
        ("command", entry.exec.to_string()),
    ];
    Entry {
        timestamp: timestamp(entry.time),
        message: message.trim_end_matches(['\r', '\n']).to_owned(),
        level,
        fields: fields.into_iter().collect(),
    }
}

fn line(entry: &Entry) -> Line {
    let line = json!({
        "timestamp": entry.timestamp,
        "level": entry.level,
        "logger": LOGGER,
        "message": entry.message,
    });
    Line { timestamp: entry.timestamp, line: line.to_string() }
}
