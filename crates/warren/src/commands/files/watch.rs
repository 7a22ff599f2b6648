//! `warren files watch`

use warren_api::{
    client::ClientError,
    files::{WatchEvent, WatchedPath},
};

use super::{Context, Place, list::printable};
use crate::error::CliError;

pub(super) async fn watch(
    cx: &Context<'_>,
    place: &Place,
    user: Option<&str>,
    recursive: bool,
) -> Result<(), CliError> {
    let mut stream = cx.client.watch_files(&place.sandbox, &place.path, user, recursive).await?;
    while let Some(event) = stream.next().await? {
        match event {
            WatchEvent::Keepalive => {}
            WatchEvent::Error(body) => return Err(ClientError::Refused(body).into()),
            event if cx.output.json => {
                let line = serde_json::to_string(&event).map_err(CliError::local("write JSON"))?;
                cx.output.line(&line)?;
            }
            WatchEvent::Start(WatchedPath { path }) => {
                cx.output.talk(&format!("watching {}", printable(&path)));
            }
            WatchEvent::Overflow => cx.output.warn("changes were lost"),
            WatchEvent::Create(it) => line(cx, "create", &it)?,
            WatchEvent::Write(it) => line(cx, "write", &it)?,
            WatchEvent::Remove(it) => line(cx, "remove", &it)?,
            WatchEvent::Rename(it) => line(cx, "rename", &it)?,
            WatchEvent::Chmod(it) => line(cx, "chmod", &it)?,
        }
    }
    Err(ClientError::ended_early().into())
}

fn line(cx: &Context<'_>, kind: &str, at: &WatchedPath) -> Result<(), CliError> {
    cx.output.line(&format!("{kind:<7} {}", printable(&at.path)))
}
