//! Core's types as the API's, and back. Nothing is decided here.

use std::{path::PathBuf, time::Duration};

use warren_api::{Timestamp, event, exec, files, logs, sandbox as api, server, usage};
use warren_core::{
    clock, events, exec as core_exec,
    exposure::Exposure,
    logs as core_logs,
    runtime::{Capabilities, DeadlineAction, Usage},
    sandbox::{EndReason, Sandbox, Wanted, WantedMount, WantedVolume},
    sandboxes::{ChangeKind, FileChange, FileInfo, FileKind, Filter, Page, Unpacked},
    spec::{HostDirectory, Image, Limits, OciImage, Profile},
    state::State,
};

use crate::{error::ApiError, extract::Parameters};

mod access;
mod credentials;
mod git;
pub(crate) mod images;
pub(crate) mod network;
mod snapshots;
mod templates;
mod volumes;

pub(crate) use credentials::{credentials, given};
pub(crate) use git::{
    git_branches, git_committed, git_log, git_pushed, git_rescue, git_session, git_status,
    wanted_git,
};
pub(crate) use volumes::volume;

pub(crate) use access::{key, key_scope, project, quota};
pub(crate) use snapshots::{check_snapshot_kind, made, snapshot, wanted_fork, wanted_snapshot};
pub(crate) use templates::{build, build_log_entry, build_request, quoted, template};

/// How many sandboxes a page has where the request does not say, and at most.
const PAGE: (usize, usize) = (100, 1000);

pub(crate) fn wanted(request: api::CreateSandbox) -> Result<Wanted, ApiError> {
    Ok(Wanted {
        image: request.image.as_deref().map(image).transpose()?,
        snapshot: request.snapshot,
        template: request.template,
        name: request.name,
        labels: request.labels,
        env: request.env,
        user: request.user,
        workdir: request.workdir,
        cpu_millis: request.cpu_millis,
        memory_bytes: request.memory_bytes,
        pids: request.pids,
        open_files: request.open_files,
        disk_bytes: request.disk_bytes,
        lifetime: request.lifetime_seconds.map(Duration::from_secs),
        on_deadline: request.on_deadline.map(|action| match action {
            api::OnDeadline::Kill => DeadlineAction::Kill,
            api::OnDeadline::Pause => DeadlineAction::Pause,
            api::OnDeadline::Stop => DeadlineAction::Stop,
        }),
        profile: request.profile.map(|profile| match profile {
            api::Profile::Default => Profile::Default,
            api::Profile::Strict => Profile::Strict,
        }),
        network: request.network.map(network::wanted).transpose()?,
        hostname: request.hostname,
        mounts: request
            .mounts
            .into_iter()
            .map(|mount| WantedMount {
                source: PathBuf::from(mount.source),
                target: mount.target,
                read_only: mount.read_only,
            })
            .collect(),
        credentials: request.credentials.map(credentials).unwrap_or_default(),
        volumes: request
            .volumes
            .into_iter()
            .map(|mount| WantedVolume {
                volume: mount.volume,
                target: mount.target,
                read_only: mount.read_only,
            })
            .collect(),
        exposure: Exposure {
            public: request.public_ports.into_iter().collect(),
            wake: request.auto_resume,
            mask_host: request.mask_request_host.filter(|mask| !mask.is_empty()),
            revision: 0,
            e2b: None,
        },
        git: request.git.map(wanted_git).transpose()?,
        cold: request.warm == Some(false),
    })
}

fn image(text: &str) -> Result<Image, ApiError> {
    match text.split_once(':') {
        _ if text.is_empty() => Err(ApiError::invalid("image", "must not be empty")),
        _ if text == "host" => Ok(Image::Host),
        Some(("dir", path)) => Ok(Image::Directory(PathBuf::from(path))),
        Some(("tar", path)) => Ok(Image::Archive(PathBuf::from(path))),
        _ => Ok(Image::Oci(OciImage { reference: text.to_owned(), id: None })),
    }
}

fn image_text(image: &Image) -> String {
    match image {
        Image::Host => "host".to_owned(),
        Image::Directory(path) => format!("dir:{}", path.display()),
        Image::Archive(path) => format!("tar:{}", path.display()),
        Image::Oci(OciImage { reference, .. }) => reference.clone(),
        Image::Snapshot(stack) => {
            stack.layers.first().map(|id| format!("snapshot:{id}")).unwrap_or_default()
        }
    }
}

pub(crate) fn sandbox(sandbox: &Sandbox) -> api::Sandbox {
    let end = sandbox.end.as_ref();
    api::Sandbox {
        id: sandbox.id.to_string(),
        name: sandbox.name.clone(),
        state: state(sandbox.state),
        image: image_text(&sandbox.spec.image),
        profile: profile(sandbox.spec.profile),
        network: network::shown(&sandbox.spec.network),
        limits: limits(&sandbox.spec.limits),
        labels: sandbox.labels.clone(),
        user: sandbox.setup.user.clone(),
        workdir: sandbox.setup.workdir.clone(),
        created_at: timestamp(sandbox.created_at),
        expires_at: sandbox.expires_at.map(timestamp),
        ended_at: end.map(|end| timestamp(end.at)),
        end: end.map(|end| api::End {
            reason: reason(end.reason),
            message: end.message.clone(),
            exit_code: end.exit_code,
        }),
        runtime: sandbox.runtime.to_string(),
        warm: sandbox.warm,
        startable: sandbox.kept,
        mounts: sandbox.spec.mounts.iter().map(mount).collect(),
        volumes: sandbox.spec.volumes.iter().map(volumes::mount).collect(),
        public_ports: sandbox.exposure.public.iter().copied().collect(),
        auto_resume: sandbox.exposure.wake,
        mask_request_host: sandbox.exposure.mask_host.clone(),
        parent: sandbox.history.parent.map(|id| id.to_string()),
        snapshot: sandbox.history.snapshot.map(|id| id.to_string()),
        timing: None,
        warnings: Vec::new(),
    }
}

fn profile(profile: Profile) -> api::Profile {
    match profile {
        Profile::Default => api::Profile::Default,
        Profile::Strict => api::Profile::Strict,
    }
}

fn mount(mount: &HostDirectory) -> api::Mount {
    api::Mount {
        source: mount.source.display().to_string(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    }
}

/// What callers see of a state: being frozen is being paused, being parked is nobody's to see.
fn state(state: State) -> api::State {
    match state {
        State::Creating | State::Parked => api::State::Creating,
        State::Running => api::State::Running,
        State::Pausing | State::Paused | State::Resuming => api::State::Paused,
        State::Stopping => api::State::Stopping,
        State::Stopped => api::State::Stopped,
        State::Starting => api::State::Starting,
        State::Failed => api::State::Failed,
    }
}

/// The states that callers see as this one.
fn states(state: &str) -> Result<Vec<State>, ApiError> {
    Ok(match state {
        "creating" => vec![State::Creating],
        "running" => vec![State::Running],
        "paused" => vec![State::Pausing, State::Paused, State::Resuming],
        "stopping" => vec![State::Stopping],
        "stopped" => vec![State::Stopped],
        "starting" => vec![State::Starting],
        "failed" => vec![State::Failed],
        _ => {
            let known = "creating, running, paused, stopping, stopped, starting or failed";
            return Err(ApiError::invalid("state", format!("expected {known}")));
        }
    })
}

fn limits(limits: &Limits) -> api::Limits {
    api::Limits {
        cpu_millis: limits.cpu_millis,
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        open_files: limits.open_files,
        disk_bytes: limits.disk_bytes,
    }
}

fn reason(reason: EndReason) -> api::EndReason {
    match reason {
        EndReason::Exit => api::EndReason::Exit,
        EndReason::Timeout => api::EndReason::Timeout,
        EndReason::OutOfMemory => api::EndReason::OutOfMemory,
        EndReason::Killed => api::EndReason::Killed,
        EndReason::Stopped => api::EndReason::Stopped,
        EndReason::Host => api::EndReason::Host,
    }
}

pub(crate) fn timestamp(time: clock::Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(time.as_millis())
}

pub(crate) fn timing(total: Duration, steps: &[(&'static str, Duration)]) -> api::Timing {
    let step = |(name, length): &(&'static str, Duration)| api::TimingStep {
        name: (*name).to_owned(),
        us: micros(*length),
    };
    api::Timing { total_us: micros(total), steps: steps.iter().map(step).collect() }
}

pub(crate) fn metrics(sandbox: &Sandbox, usage: &Usage, now: clock::Timestamp) -> usage::Metrics {
    usage::Metrics {
        time: timestamp(now),
        memory_bytes: usage.memory_bytes,
        memory_peak_bytes: usage.memory_peak_bytes,
        cpu_us: micros(usage.cpu),
        pids: usage.pids,
        oom_kills: usage.oom_kills,
        disk_bytes: usage.disk_bytes,
        traffic: usage.traffic.map(network::traffic),
        limits: limits(&sandbox.spec.limits),
    }
}

pub(crate) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn filter(mut parameters: Parameters) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: PAGE.0, ..Filter::default() };
    for state in parameters.all("state") {
        filter.states.extend(states(&state)?);
    }
    for label in parameters.all("label") {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| ApiError::invalid("label", "expected KEY=VALUE"))?;
        filter.labels.insert(key.to_owned(), value.to_owned());
    }
    filter.name = parameters.one("name")?;
    if let Some(limit) = parameters.number("limit")? {
        if !(1..=PAGE.1).contains(&limit) {
            return Err(ApiError::invalid("limit", format!("expected 1 to {}", PAGE.1)));
        }
        filter.limit = limit;
    }
    filter.after = parameters.one("cursor")?.as_deref().map(cursor).transpose()?;
    parameters.finish()?;
    Ok(filter)
}

pub(crate) fn page(page: &Page) -> api::SandboxList {
    let last = page.sandboxes.last().filter(|_| page.more);
    let next_cursor =
        last.map(|sandbox| format!("{}.{}", sandbox.created_at.as_millis(), sandbox.id));
    let sandboxes = page.sandboxes.iter().map(|it| sandbox(it)).collect();
    api::SandboxList { sandboxes, next_cursor }
}

/// The place in the list that a cursor names: `<created>.<id>`.
fn cursor(text: &str) -> Result<(clock::Timestamp, warren_core::id::SandboxId), ApiError> {
    let place = text.split_once('.').and_then(|(created, id)| {
        Some((clock::Timestamp::from_millis(created.parse().ok()?), id.parse().ok()?))
    });
    place.ok_or_else(|| ApiError::invalid("cursor", "not one of this server's"))
}

pub(crate) fn runtime(name: &str, capabilities: Capabilities) -> server::RuntimeInfo {
    server::RuntimeInfo {
        name: name.to_owned(),
        capabilities: server::Capabilities {
            pause: capabilities.pause,
            stop: capabilities.stop,
            dial: capabilities.dial,
            network: capabilities.network,
            network_rules: capabilities.network_rules,
            memory_limit: capabilities.memory_limit,
            cpu_limit: capabilities.cpu_limit,
            pids_limit: capabilities.pids_limit,
            usage: capabilities.usage,
            users: capabilities.users,
        },
        warnings: capabilities.warnings,
    }
}

pub(crate) fn command(request: exec::ExecRequest) -> core_exec::Command {
    core_exec::Command {
        argv: request.command,
        env: request.env,
        user: request.user,
        workdir: request.workdir,
        timeout: request.timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis),
        stdin: request.stdin,
        stdin_data: request.stdin_data.map(|data| data.0.into()),
        terminal: request
            .tty
            .map(|size| core_exec::TerminalSize { cols: size.cols, rows: size.rows }),
    }
}

pub(crate) fn exec_end(end: &core_exec::ExecEnd) -> exec::ExecEnd {
    let duration = end.duration.unwrap_or_default();
    exec::ExecEnd {
        exit_code: end.exit_code,
        signal: end.signal,
        timed_out: end.timed_out,
        out_of_memory: end.out_of_memory.map(|limit_bytes| exec::OutOfMemory { limit_bytes }),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(crate) fn exec_started(exec: &core_exec::Exec) -> exec::ExecStarted {
    exec::ExecStarted { exec_id: exec.id().to_string(), pid: exec.pid() }
}

pub(crate) fn exec_outcome(
    exec: &core_exec::Exec,
    outcome: core_exec::Outcome,
) -> exec::ExecOutcome {
    let (stdout, stdout_base64) = text(outcome.stdout);
    let (stderr, stderr_base64) = text(outcome.stderr);
    exec::ExecOutcome {
        exec_id: exec.id().to_string(),
        pid: exec.pid(),
        end: exec_end(&outcome.end),
        stdout,
        stderr,
        stdout_base64,
        stderr_base64,
        truncated: outcome.truncated,
    }
}

/// Bytes as text, and as base64 where the text is not exact.
fn text(bytes: Vec<u8>) -> (String, Option<warren_api::Base64>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.into_bytes();
            (String::from_utf8_lossy(&bytes).into_owned(), Some(bytes.into()))
        }
    }
}

pub(crate) fn exec_info(info: core_exec::ExecInfo) -> exec::ExecInfo {
    exec::ExecInfo {
        exec_id: info.id.to_string(),
        pid: info.pid,
        command: info.argv,
        started_at: info.started_at.map(timestamp),
        end: info.end.as_ref().map(exec_end),
    }
}

pub(crate) fn log_entry(entry: &core_logs::LogEntry) -> logs::LogEntry {
    use core_logs::LogSource as S;
    logs::LogEntry {
        seq: entry.seq,
        time: timestamp(entry.time),
        exec_id: entry.exec.to_string(),
        source: match entry.source {
            S::Stdout => logs::LogSource::Stdout,
            S::Stderr => logs::LogSource::Stderr,
            S::Terminal => logs::LogSource::Tty,
            S::System => logs::LogSource::System,
        },
        data: entry.data.to_vec().into(),
    }
}

pub(crate) fn file(info: FileInfo) -> files::FileInfo {
    files::FileInfo {
        name: info.name,
        path: info.path,
        kind: match info.kind {
            FileKind::File => files::FileKind::File,
            FileKind::Directory => files::FileKind::Directory,
            FileKind::Symlink => files::FileKind::Symlink,
            FileKind::Other => files::FileKind::Other,
        },
        size: info.size,
        mode: format!("{:04o}", info.mode),
        owner: info.owner,
        group: info.group,
        modified_at: info.modified_at.map(timestamp),
        symlink_target: info.symlink_target,
    }
}

pub(crate) fn unpacked(unpacked: Unpacked) -> files::ArchiveUnpacked {
    let Unpacked { path, entries, bytes, skipped } = unpacked;
    files::ArchiveUnpacked { path, entries, bytes, skipped }
}

pub(crate) fn change(change: FileChange) -> files::WatchEvent {
    let path = files::WatchedPath { path: change.path };
    match change.kind {
        ChangeKind::Create => files::WatchEvent::Create(path),
        ChangeKind::Write => files::WatchEvent::Write(path),
        ChangeKind::Remove => files::WatchEvent::Remove(path),
        ChangeKind::Rename => files::WatchEvent::Rename(path),
        ChangeKind::Chmod => files::WatchEvent::Chmod(path),
        ChangeKind::Overflow => files::WatchEvent::Overflow,
    }
}

pub(crate) fn event(event: &events::Event) -> event::Event {
    event::Event {
        seq: event.seq,
        time: timestamp(event.time),
        kind: match event.kind {
            events::EventKind::Created => event::EventKind::Created,
            events::EventKind::Running => event::EventKind::Running,
            events::EventKind::Paused => event::EventKind::Paused,
            events::EventKind::Resumed => event::EventKind::Resumed,
            events::EventKind::Stopped => event::EventKind::Stopped,
            events::EventKind::Started => event::EventKind::Started,
            events::EventKind::Extended => event::EventKind::Extended,
            events::EventKind::Snapshotted => event::EventKind::Snapshotted,
            events::EventKind::RolledBack => event::EventKind::RolledBack,
            events::EventKind::DiskFull => event::EventKind::DiskFull,
            events::EventKind::Denied => event::EventKind::Denied,
            events::EventKind::NetworkChanged => event::EventKind::NetworkChanged,
            events::EventKind::PortOpened => event::EventKind::PortOpened,
            events::EventKind::PortClosed => event::EventKind::PortClosed,
            events::EventKind::CertificateFailed => event::EventKind::CertificateFailed,
            events::EventKind::CertificateEnding => event::EventKind::CertificateEnding,
            events::EventKind::Git => event::EventKind::Git,
            events::EventKind::Failed => event::EventKind::Failed,
            events::EventKind::Deleted => event::EventKind::Deleted,
        },
        sandbox_id: event.sandbox.to_string(),
        detail: event
            .detail
            .iter()
            .map(|(key, value)| (key.clone(), serde_json::Value::from(value.clone())))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_reads_back_as_it_was_written() {
        for text in ["host", "dir:/srv/root", "tar:/srv/root.tar", "docker.io/library/alpine:3"] {
            assert_eq!(image_text(&image(text).unwrap()), text);
        }
        assert!(image("").is_err());
    }

    #[test]
    fn text_that_is_none_is_also_given_as_bytes() {
        assert_eq!(text(b"ok".to_vec()), ("ok".to_owned(), None));
        let (lossy, exact) = text(vec![0xff, b'a']);
        assert_eq!(lossy, "\u{fffd}a");
        assert_eq!(exact.unwrap().0, [0xff, b'a']);
    }

    #[test]
    fn a_cursor_that_is_not_ours_is_refused() {
        assert!(cursor("12.sb-aaaaaaaaaaaaaaaa").is_ok());
        for bad in ["", "12", "x.sb-aaaaaaaaaaaaaaaa", "12.nonsense"] {
            assert!(cursor(bad).is_err(), "{bad}");
        }
    }
}
