//! Making a sandbox so that nothing of it stays when the person changes their mind.

use warren_api::sandbox::{CreateSandbox, Sandbox};

use super::{Context, pulling::present};
use crate::{error::CliError, session::Signals};

/// Makes the sandbox. Asked to end meanwhile, it waits for it to be made and removes it: its id is
/// not known before.
pub(super) async fn made(
    cx: &Context<'_>,
    wanted: &CreateSandbox,
    signals: &mut Signals,
) -> Result<Sandbox, CliError> {
    present(cx, wanted.image.as_deref(), signals).await?;
    let creation = cx.wait("making the sandbox", cx.client.create_sandbox(wanted));
    let mut creation = std::pin::pin!(creation);
    let end = tokio::select! {
        // Whoever has asked us to end before the answer came gets no sandbox.
        biased;
        end = signals.end() => end,
        created = &mut creation => return Ok(created?),
    };
    let remove = async {
        if let Ok(created) = creation.await {
            cx.client.ensure_deleted(&created.id).await.ok();
        }
    };
    tokio::select! {
        () = remove => Err(end),
        again = signals.end() => {
            Err(again.hint("a sandbox may have been made; `warren list` shows it"))
        }
    }
}

/// Removes a sandbox that this command has made; what the command did counts more than that. A
/// person who does not want to wait for it is told what is left.
pub(super) async fn removed(cx: &Context<'_>, id: &str, signals: &mut Signals) {
    let removing = cx.wait("removing the sandbox", cx.client.ensure_deleted(id));
    let problem = tokio::select! {
        result = removing => match result {
            Ok(()) => return,
            Err(error) => error.to_string(),
        },
        end = signals.end() => end.source.to_string(),
    };
    cx.output.warn(&format!("sandbox {id} may be left, for it was not removed: {problem}"));
}
