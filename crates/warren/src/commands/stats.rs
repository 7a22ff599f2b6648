//! `warren stats`

use std::{process::ExitCode, time::Duration};

use warren_api::{
    sandbox::{ListSandboxes, State},
    usage::Metrics,
};

use super::{Context, list::every};
use crate::{
    config::{Cpus, Size},
    error::CliError,
};

/// Show what sandboxes use
#[derive(clap::Args, Debug)]
pub(crate) struct StatsArgs {
    /// Their ids or names; all that run where none is given
    #[arg(value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

pub(crate) async fn stats(cx: &Context<'_>, args: StatsArgs) -> Result<ExitCode, CliError> {
    let sandboxes = if args.sandboxes.is_empty() {
        let states = vec![State::Running, State::Paused];
        let all = every(cx, ListSandboxes { states, ..ListSandboxes::default() }).await?;
        all.into_iter().map(|sandbox| sandbox.id).collect()
    } else {
        args.sandboxes
    };
    let mut measured = Vec::new();
    for sandbox in sandboxes {
        let metrics = cx.client.sandbox_metrics(&sandbox).await?;
        measured.push((sandbox, metrics));
    }
    if cx.output.json {
        let values: Vec<_> = measured
            .iter()
            .map(|(sandbox, metrics)| serde_json::json!({ "sandbox": sandbox, "metrics": metrics }))
            .collect();
        cx.output.value(&serde_json::json!({ "sandboxes": values }))?;
    } else {
        let rows: Vec<_> =
            measured.iter().map(|(sandbox, metrics)| row(sandbox, metrics)).collect();
        let head =
            ["SANDBOX", "MEMORY", "PEAK", "LIMIT", "CPU TIME", "CPUS", "PIDS", "DISK", "OOM KILLS"];
        cx.output.table(head, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is on its disk, and the limit of that; where neither is known, nothing.
fn disk(metrics: &Metrics) -> String {
    let used = metrics.disk_bytes.map(|it| format!("{:.1} MiB", it as f64 / f64::from(1 << 20)));
    match (used, metrics.limits.disk_bytes) {
        (Some(used), Some(limit)) => format!("{used}/{}", Size(limit)),
        (Some(used), None) => used,
        (None, _) => "-".to_owned(),
    }
}

fn row(sandbox: &str, metrics: &Metrics) -> [String; 9] {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let cpu = Duration::from_micros(metrics.cpu_us);
    [
        sandbox.to_owned(),
        mib(metrics.memory_bytes),
        mib(metrics.memory_peak_bytes),
        Size(metrics.limits.memory_bytes).to_string(),
        format!("{:.2} s", cpu.as_secs_f64()),
        Cpus(metrics.limits.cpu_millis).to_string(),
        format!("{}/{}", metrics.pids, metrics.limits.pids),
        disk(metrics),
        metrics.oom_kills.to_string(),
    ]
}
