//! The few calls of the API that are measured.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::http::{Answer, Client};

/// Where a new sandbox may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Made when it is asked for.
    OnDemand,
    /// Taken from the parked ones if there is one.
    Warm,
}

/// Makes a sandbox. Returns its id, and whether it was parked.
pub(crate) fn create(client: &mut Client, source: Source) -> Result<(String, bool)> {
    created(&create_answer(client, source)?.json()?)
}

/// Makes a sandbox and gives the whole answer, unread.
pub(crate) fn create_answer(client: &mut Client, source: Source) -> Result<Answer> {
    client.send("POST", "/v1/sandboxes", &create_body(source))
}

/// The body of [`create`], for those who write and read apart.
pub(crate) fn create_body(source: Source) -> Vec<u8> {
    json!({"warm": source == Source::Warm, "lifetime_seconds": 600}).to_string().into_bytes()
}

/// What [`create`] returns, from the answer's body.
pub(crate) fn created(sandbox: &Value) -> Result<(String, bool)> {
    let id = sandbox.get("id").and_then(Value::as_str).context("a sandbox without an id")?;
    let warm = sandbox.get("warm").and_then(Value::as_bool).unwrap_or(false);
    Ok((id.to_owned(), warm))
}

/// Where the server says the time of a creation went: step and microseconds.
pub(crate) fn steps(sandbox: &Value) -> Vec<(String, u64)> {
    let steps = sandbox.get("timing").and_then(|timing| timing.get("steps"));
    let steps = steps.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let step = |step: &Value| {
        let name = step.get("name")?.as_str()?;
        Some((name.to_owned(), step.get("us")?.as_u64()?))
    };
    steps.iter().filter_map(step).collect()
}

/// Runs a command to its end; fails unless it exits with 0.
pub(crate) fn exec(client: &mut Client, id: &str, command: &[&str]) -> Result<()> {
    let body = json!({"command": command}).to_string();
    let answer = client.send("POST", &format!("/v1/sandboxes/{id}/exec"), body.as_bytes())?;
    let result = answer.json()?;
    let code = result.get("exit_code").and_then(Value::as_i64);
    anyhow::ensure!(code == Some(0), "{command:?} in {id}: {result}");
    Ok(())
}

/// Asks the agent for something that needs no process.
pub(crate) fn ping(client: &mut Client, id: &str) -> Result<()> {
    client.send("GET", &format!("/v1/sandboxes/{id}/files/stat?path=/"), b"")?.good()
}

/// Removes a sandbox.
pub(crate) fn destroy(client: &mut Client, id: &str) -> Result<()> {
    client.send("DELETE", &format!("/v1/sandboxes/{id}"), b"")?.good()
}

/// `pause` or `resume`.
pub(crate) fn act(client: &mut Client, id: &str, verb: &str) -> Result<()> {
    client.send("POST", &format!("/v1/sandboxes/{id}/{verb}"), b"")?.good()
}

/// Makes a sandbox from an image, on demand; from the default one where none is named.
pub(crate) fn create_from(client: &mut Client, image: Option<&str>) -> Result<String> {
    let body = json!({"warm": false, "lifetime_seconds": 3600, "image": image.unwrap_or("host")});
    let answer = client.send("POST", "/v1/sandboxes", body.to_string().as_bytes())?;
    Ok(created(&answer.json()?)?.0)
}

/// Fetches an image.
pub(crate) fn pull(client: &mut Client, reference: &str) -> Result<()> {
    let body = json!({"reference": reference}).to_string();
    let answer = client.send("POST", "/v1/images/pull", body.as_bytes())?;
    answer.good()?;
    let text = String::from_utf8_lossy(&answer.body);
    let last = text.lines().next_back().unwrap_or_default();
    let last: Value = serde_json::from_str(last).context("the last line of a transfer")?;
    anyhow::ensure!(last.get("type").is_some_and(|it| it == "done"), "pull {reference}: {last}");
    Ok(())
}

/// Removes an image.
pub(crate) fn remove_image(client: &mut Client, reference: &str) -> Result<()> {
    let name = reference.replace('/', "%2F").replace(':', "%3A");
    client.send("DELETE", &format!("/v1/images/{name}"), b"")?.good()
}

/// Builds a template from a Dockerfile and an archive with the files it copies; without the results
/// of earlier builds where it is to be cold.
pub(crate) fn build(
    client: &mut Client,
    dockerfile: &str,
    archive: &[u8],
    cold: bool,
) -> Result<()> {
    let files = client.send("PUT", "/v1/build-files", archive)?.json()?;
    let body = json!({
        "name": "bench", "dockerfile": dockerfile, "no_cache": cold, "context": files.get("id"),
    });
    let build = client.send("POST", "/v1/builds", body.to_string().as_bytes())?.json()?;
    let id = build.get("id").and_then(Value::as_str).context("a build without an id")?;
    // It follows the log to its end, which is the build's.
    client.send("GET", &format!("/v1/builds/{id}/logs?follow=true"), b"")?.good()?;
    let build = client.send("GET", &format!("/v1/builds/{id}"), b"")?.json()?;
    anyhow::ensure!(build.get("status").is_some_and(|it| it == "ready"), "the build: {build}");
    Ok(())
}

/// A snapshot, and for how long the sandbox stood still.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    pub(crate) frozen: std::time::Duration,
}

/// Makes a snapshot of a sandbox.
pub(crate) fn snapshot(client: &mut Client, id: &str) -> Result<Snapshot> {
    let answer = client.send("POST", &format!("/v1/sandboxes/{id}/snapshots"), b"{}")?.json()?;
    let id = answer.get("id").and_then(Value::as_str).context("a snapshot without an id")?;
    let frozen = answer.get("frozen_us").and_then(Value::as_u64).context("no `frozen_us`")?;
    Ok(Snapshot { id: id.to_owned(), frozen: std::time::Duration::from_micros(frozen) })
}

/// Removes a snapshot.
pub(crate) fn remove_snapshot(client: &mut Client, id: &str) -> Result<()> {
    client.send("DELETE", &format!("/v1/snapshots/{id}"), b"")?.good()
}

/// Makes children of a sandbox, and gives their ids.
pub(crate) fn fork(client: &mut Client, id: &str, count: usize) -> Result<Vec<String>> {
    let body = json!({"count": count}).to_string();
    let answer = client.send("POST", &format!("/v1/sandboxes/{id}/fork"), body.as_bytes())?;
    let answer = answer.json()?;
    let children = answer.get("sandboxes").and_then(Value::as_array).context("no children")?;
    children.iter().map(|child| Ok(created(child)?.0)).collect()
}
