//! Nodes: this server is the only one. They are for whoever runs it.

use std::fs;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{Caller, sandboxes::Filter};

use super::{
    Refusal,
    extract::{Body, Segment, Team},
};
use crate::{app::App, convert::timestamp};

/// What this node is called.
const NODE: &str = "local";

/// A node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    id: &'static str,
    #[serde(rename = "serviceInstanceID")]
    service_instance_id: &'static str,
    #[serde(rename = "clusterID")]
    cluster_id: &'static str,
    version: String,
    commit: &'static str,
    status: &'static str,
    status_changed_at: Timestamp,
    sandbox_count: usize,
    sandbox_starting_count: usize,
    create_successes: u64,
    create_fails: u64,
    machine_info: Machine,
    metrics: Metrics,
}

/// A node with what runs on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(flatten)]
    node: Node,
    sandboxes: Vec<Running>,
    cached_builds: Vec<String>,
}

/// A sandbox on a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
}

/// The machine.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    cpu_family: String,
    cpu_model: String,
    cpu_model_name: String,
    cpu_architecture: &'static str,
}

/// What of the machine is given away, and what is used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    #[serde(rename = "allocatedCPU")]
    allocated_cpu: u32,
    allocated_memory_bytes: u64,
    cpu_count: usize,
    cpu_percent: u32,
    memory_used_bytes: u64,
    memory_total_bytes: u64,
    disks: Vec<()>,
}

/// What a node is wanted to be.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    status: String,
}

/// `GET /nodes`
pub(super) async fn list_nodes(
    State(app): State<App>,
    Team(caller): Team,
) -> Result<Json<Vec<Node>>, Refusal> {
    Ok(Json(vec![node(&app, &caller)?]))
}

/// `GET /nodes/{node}`
pub(super) async fn get_node(
    State(app): State<App>,
    Team(caller): Team,
    Segment(id): Segment,
) -> Result<Json<Detail>, Refusal> {
    let node = node(&app, &caller)?;
    check(&id)?;
    let running = |id: &warren_core::id::SandboxId| Running { sandbox_id: id.to_string() };
    let sandboxes = living(&app, &caller).iter().map(|it| running(&it.id)).collect();
    Ok(Json(Detail { node, sandboxes, cached_builds: Vec::new() }))
}

/// `POST /nodes/{node}`: there is no other node that sandboxes could go to.
pub(super) async fn change_node(
    Team(caller): Team,
    Segment(id): Segment,
    Body(wanted): Body<Wanted>,
) -> Result<StatusCode, Refusal> {
    caller.require_host("look at its nodes, on its unix socket")?;
    check(&id)?;
    match wanted.status.as_str() {
        "ready" => Ok(StatusCode::NO_CONTENT),
        "draining" | "connecting" | "unhealthy" | "standby" => {
            let message = "the only node of a server is always ready; stop the server instead";
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, message))
        }
        _ => {
            Err(Refusal::bad("status: expected ready, draining, connecting, unhealthy or standby"))
        }
    }
}

fn check(id: &str) -> Result<(), Refusal> {
    if id == NODE { Ok(()) } else { Err(Refusal::not_found(format!("node '{id}' not found"))) }
}

fn living(app: &App, caller: &Caller) -> Vec<std::sync::Arc<warren_core::sandbox::Sandbox>> {
    let filter = Filter { limit: usize::MAX, ..Filter::default() };
    let mut found = app.sandboxes.list(caller, &filter).sandboxes;
    found.retain(|sandbox| sandbox.state.is_living());
    found
}

fn node(app: &App, caller: &Caller) -> Result<Node, Refusal> {
    caller.require_host("look at its nodes, on its unix socket")?;
    let statistics = app.sandboxes.statistics();
    let of = |state: &str| statistics.states.get(state).copied().unwrap_or_default();
    let limits = living(app, caller);
    let limits = limits.iter().map(|sandbox| &sandbox.spec.limits);
    let (mut millis, mut memory) = (0_u32, 0_u64);
    for limits in limits {
        millis = millis.saturating_add(limits.cpu_millis);
        memory = memory.saturating_add(limits.memory_bytes);
    }
    let (made, failed) = app.metrics().creations();
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (total, free) = (bytes(&text, "MemTotal:"), bytes(&text, "MemAvailable:"));
    let uptime = app.uptime();
    let now = app.sandboxes.now().as_millis();
    let since = now.saturating_sub(u64::try_from(uptime.as_millis()).unwrap_or_default());
    Ok(Node {
        id: NODE,
        service_instance_id: NODE,
        cluster_id: NODE,
        version: app.version().to_owned(),
        commit: "",
        status: "ready",
        status_changed_at: timestamp(warren_core::clock::Timestamp::from_millis(since)),
        sandbox_count: of("running"),
        sandbox_starting_count: of("creating") + of("starting"),
        create_successes: made,
        create_fails: failed,
        machine_info: machine(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        metrics: Metrics {
            allocated_cpu: millis.div_ceil(1000),
            allocated_memory_bytes: memory,
            cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_percent: 0,
            memory_used_bytes: total.saturating_sub(free),
            memory_total_bytes: total,
            disks: Vec::new(),
        },
    })
}

/// The machine, as `/proc/cpuinfo` describes its first processor.
fn machine(text: &str) -> Machine {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    Machine {
        cpu_family: field("cpu family").unwrap_or_default(),
        cpu_model: field("model").unwrap_or_default(),
        cpu_model_name: field("model name").unwrap_or_default(),
        cpu_architecture: std::env::consts::ARCH,
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn bytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_what_the_kernel_says() {
        let text = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Some CPU\n";
        let found = machine(text);
        assert_eq!((found.cpu_family.as_str(), found.cpu_model.as_str()), ("6", "85"));
        assert_eq!(found.cpu_model_name, "Some CPU");
        assert_eq!(machine("").cpu_model_name, "");
        assert_eq!(bytes("MemFree: 1 kB\nMemTotal:  2048 kB\n", "MemTotal:"), 2 << 20);
        assert_eq!(bytes("", "MemTotal:"), 0);
    }
}
