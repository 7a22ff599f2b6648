//! Making a sandbox so that nothing of it stays when the person changes their mind.

use warren_api::sandbox::{CreateSandbox, Sandbox};

use super::Context;
use crate::{error::CliError, session::Signals};

/// Makes the sandbox. Asked to end meanwhile, it waits for it to be made and removes it: its id is
/// not known before.
pub(super) async fn made(
    cx: &Context<'_>,
    wanted: &CreateSandbox,
    signals: &mut Signals,
) -> Result<Sandbox, CliError> {
    let mut creation = std::pin::pin!(cx.client.create_sandbox(wanted));
    let end = tokio::select! {
        created = &mut creation => return Ok(created?),
        end = signals.end() => end,
    };
    let remove = async {
        if let Ok(created) = creation.await {
            removed(cx, &created.id).await;
        }
    };
    tokio::select! {
        () = remove => Err(end),
        again = signals.end() => {
            Err(again.hint("a sandbox may have been made; `warren list` shows it"))
        }
    }
}

/// Removes a sandbox that this command has made; what the command did counts more than that.
pub(super) async fn removed(cx: &Context<'_>, id: &str) {
    if let Err(error) = cx.client.ensure_deleted(id).await {
        cx.output.warn(&format!("sandbox {id} could not be removed: {error}"));
    }
}
