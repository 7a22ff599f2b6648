//! `warren git rescue`

use std::path::PathBuf;

use clap::Subcommand;
use tokio::io::AsyncWriteExt as _;
use warren_api::git::GitRescue;

use crate::{clock, commands::Context, config::Size, error::CliError};

#[derive(Subcommand, Debug)]
pub(super) enum RescueCommand {
    /// List bundles of work
    #[command(visible_alias = "ls")]
    List,
    /// Write a bundle to a file, from which `git fetch` takes it
    Restore {
        /// The id of the sandbox that it was in
        id: String,
        /// The file, `ID.bundle` where absent; it must not be there yet
        #[arg(value_name = "PATH")]
        to: Option<PathBuf>,
    },
    /// Remove bundles
    Rm {
        /// The ids of the sandboxes that they were in
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

pub(super) async fn rescue(cx: &Context<'_>, command: RescueCommand) -> Result<(), CliError> {
    match command {
        RescueCommand::List => list(cx).await,
        RescueCommand::Restore { id, to } => restore(cx, &id, to).await,
        RescueCommand::Rm { ids } => {
            for id in &ids {
                cx.client.delete_git_rescue(id).await?;
                cx.output.talk(&format!("removed {id}"));
            }
            Ok(())
        }
    }
}

async fn list(cx: &Context<'_>) -> Result<(), CliError> {
    let list = cx.client.list_git_rescues().await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    let rows: Vec<_> = list.rescues.iter().map(row).collect();
    cx.output.table(["ID", "SESSION", "REPOSITORY", "SIZE", "MADE"], &rows)
}

fn row(rescue: &GitRescue) -> [String; 5] {
    [
        rescue.id.clone(),
        rescue.session.clone(),
        rescue.repository.clone(),
        Size(rescue.bytes).to_string(),
        format!("{} ago", clock::distance(clock::now(), rescue.created_at)),
    ]
}

async fn restore(cx: &Context<'_>, id: &str, to: Option<PathBuf>) -> Result<(), CliError> {
    let mut bundle = cx.client.read_git_rescue(id).await?;
    let path = to.unwrap_or_else(|| PathBuf::from(format!("{id}.bundle")));
    let failed = || CliError::local("write the bundle");
    // What is there is somebody's.
    let mut file = tokio::fs::File::create_new(&path).await.map_err(failed())?;
    let written = async {
        while let Some(piece) = bundle.chunk().await? {
            file.write_all(&piece).await.map_err(failed())?;
        }
        file.sync_all().await.map_err(failed())
    };
    if let Err(error) = written.await {
        // Half of a bundle is none.
        std::fs::remove_file(&path).ok();
        return Err(error);
    }
    let shown = path.display();
    if cx.output.json {
        return cx.output.value(&serde_json::json!({ "file": path }));
    }
    cx.output.line(&shown.to_string())?;
    cx.output.talk("in a clone of the repository:");
    cx.output.talk(&format!("  git fetch {shown} 'refs/*:refs/rescue/*'"));
    Ok(())
}
