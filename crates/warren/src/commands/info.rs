//! `warren info`

use std::process::ExitCode;

use warren_api::sandbox::{EndReason, Profile, Sandbox};

use super::{Context, reach};
use crate::{
    clock,
    config::{Cpus, Size},
    error::CliError,
};

/// Show one sandbox
///
/// A sandbox that has ended says why.
#[derive(clap::Args, Debug)]
pub(crate) struct InfoArgs {
    /// Its id or name
    sandbox: String,
}

pub(crate) async fn info(cx: &Context<'_>, args: InfoArgs) -> Result<ExitCode, CliError> {
    let sandbox = cx.wait("asking the server", cx.client.get_sandbox(&args.sandbox)).await?;
    if cx.output.json {
        cx.output.value(&sandbox)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in facts(&sandbox) {
        cx.output.line(&format!("{:<12}{value}", format!("{name}:")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a person wants to know, in that order.
fn facts(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let mut facts = vec![("id", sandbox.id.clone())];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("name", sandbox.name.clone());
    add("state", Some(sandbox.state.to_string()));
    if let Some(end) = &sandbox.end {
        add("ended", Some(format!("{}: {}", reason(end.reason), end.message)));
        add("exit", end.exit_code.map(|code| code.to_string()));
    }
    add("files", sandbox.startable.then(|| "kept; `warren start` makes it run again".to_owned()));
    add("image", Some(sandbox.image.clone()));
    add("runtime", Some(sandbox.runtime.clone()));
    let profile = match sandbox.profile {
        Profile::Default => "default",
        Profile::Strict => "strict",
    };
    add("profile", Some(profile.to_owned()));
    add("network", Some(reach::summary(&sandbox.network)));
    add("cpus", Some(Cpus(sandbox.limits.cpu_millis).to_string()));
    add("memory", Some(Size(sandbox.limits.memory_bytes).to_string()));
    add("pids", Some(sandbox.limits.pids.to_string()));
    add("open files", Some(sandbox.limits.open_files.to_string()));
    add("disk", sandbox.limits.disk_bytes.map(|bytes| Size(bytes).to_string()));
    for volume in &sandbox.volumes {
        let only = if volume.read_only { ", read-only" } else { "" };
        add("volume", Some(format!("{} at {}{only}", volume.volume, volume.target)));
    }
    add("user", Some(sandbox.user.clone()));
    add("workdir", Some(sandbox.workdir.clone()));
    let labels: Vec<_> =
        sandbox.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("labels", (!labels.is_empty()).then(|| labels.join(" ")));
    let apart = |at| clock::distance(clock::now(), at);
    let ago = |at| format!("{at} ({} ago)", apart(at));
    add("created", Some(ago(sandbox.created_at)));
    add("warm", Some(if sandbox.warm { "yes" } else { "no" }.to_owned()));
    if sandbox.ended_at.is_none() {
        let expires = sandbox.expires_at.map(|at| format!("{at} (in {})", apart(at)));
        add("expires", Some(expires.unwrap_or_else(|| "never".to_owned())));
    }
    add("ended at", sandbox.ended_at.map(ago));
    let lived = sandbox.ended_at.map(|at| clock::distance(sandbox.created_at.into(), at));
    add("lived", lived);
    for warning in &sandbox.warnings {
        add("note", Some(warning.clone()));
    }
    facts
}

/// Why a sandbox ended, in a word or two.
fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Exit => "exit",
        EndReason::Timeout => "timeout",
        EndReason::OutOfMemory => "out of memory",
        EndReason::Killed => "killed",
        EndReason::Stopped => "stopped",
        EndReason::Host => "host",
    }
}
