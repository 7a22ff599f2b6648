//! `warren events`

use std::process::ExitCode;

use warren_api::{
    client::{ClientError, EventStream},
    event::{Event, EventKind},
};

use super::Context;
use crate::{backoff::Backoff, error::CliError};

/// Follow what happens to sandboxes
///
/// One line for each event, until Ctrl-C. A server that is restarted is followed across the
/// restart, and nothing is left out or told twice.
#[derive(clap::Args, Debug)]
pub(crate) struct EventsArgs {
    /// Of this sandbox alone, by id or name
    #[arg(long, value_name = "SANDBOX")]
    sandbox: Option<String>,
    /// First those behind this number that are kept; 0 for all (default: from now on)
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

pub(crate) async fn events(cx: &Context<'_>, args: EventsArgs) -> Result<ExitCode, CliError> {
    let mut after = args.after;
    // An id goes on being one when its sandbox is gone; a name does not.
    let sandbox = match &args.sandbox {
        Some(name) if !is_id(name) => Some(cx.client.get_sandbox(name).await?.id),
        other => other.clone(),
    };
    let mut stream = cx.client.events(after, sandbox.as_deref()).await?;
    let mut backoff = Backoff::default();
    loop {
        let before = after;
        let mut error = follow(cx, &mut stream).await?;
        after = stream.position();
        if after > before {
            backoff.reset();
        }
        stream = loop {
            backoff.after(error).await?;
            match cx.client.events(after, sandbox.as_deref()).await {
                Ok(stream) => break stream,
                Err(again) => error = again,
            }
        };
    }
}

fn is_id(text: &str) -> bool {
    text.starts_with("sb-")
}

/// Prints events until the stream ends, and gives the reason.
async fn follow(cx: &Context<'_>, stream: &mut EventStream) -> Result<ClientError, CliError> {
    loop {
        match stream.next().await {
            Ok(Some(event)) => print(cx, &event)?,
            Ok(None) => return Ok(ClientError::ended_early()),
            Err(error) => return Ok(error),
        }
    }
}

fn print(cx: &Context<'_>, event: &Event) -> Result<(), CliError> {
    if cx.output.json {
        let line = serde_json::to_string(event).map_err(CliError::local("write JSON"))?;
        return cx.output.line(&line);
    }
    cx.output.line(&text(event))
}

fn text(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Running => "running",
        EventKind::Paused => "paused",
        EventKind::Resumed => "resumed",
        EventKind::Stopped => "stopped",
        EventKind::Started => "started",
        EventKind::Extended => "extended",
        EventKind::Snapshotted => "snapshotted",
        EventKind::RolledBack => "rolled back",
        EventKind::DiskFull => "disk full",
        EventKind::Denied => "denied",
        EventKind::NetworkChanged => "network changed",
        EventKind::PortOpened => "port opened",
        EventKind::PortClosed => "port closed",
        EventKind::CertificateFailed => "certificate failed",
        EventKind::CertificateEnding => "certificate ending",
        EventKind::Git => "git",
        EventKind::Failed => "failed",
        EventKind::Deleted => "deleted",
        EventKind::Unknown => "(of a later version)",
    };
    let mut text = format!("{} {} {kind}", event.time, event.sandbox_id);
    for (name, value) in event.detail.as_object().into_iter().flatten() {
        match value.as_str() {
            Some(value) => text.push_str(&format!(" {name}={value:?}")),
            None => text.push_str(&format!(" {name}={value}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use warren_api::Timestamp;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            seq: 3,
            time: Timestamp::from_unix_ms(1_795_255_200_123),
            kind: EventKind::Stopped,
            sandbox_id: "sb-a".into(),
            detail: serde_json::json!({"exit_code": 1, "reason": "a\nb"}),
        };
        let line = "2026-11-21T10:00:00.123Z sb-a stopped exit_code=1 reason=\"a\\nb\"";
        assert_eq!(text(&event), line);
    }
}
