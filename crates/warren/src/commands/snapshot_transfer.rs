//! `warren snapshot export`, `import`, `push` and `pull`

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use warren_api::snapshot::{PullSnapshot, PushSnapshot, Snapshot};

use super::{
    Context,
    backup::{Target, failed},
    pulling::followed,
    snapshot::bytes,
};
use crate::{error::CliError, session::Signals};

/// Write a snapshot to a file, as an OCI image
///
/// With all that it lies on, so that other programs can run it: `docker load` and `podman load` take
/// the file, and so does `warren snapshot import` on another server. The `host` image is not in it.
/// Hostname, machine-id and addresses are left out.
#[derive(clap::Args, Debug)]
pub(super) struct ExportArgs {
    /// Its id or name
    snapshot: String,
    /// The file to make; one that exists is not replaced. Standard output where it is `-`
    #[arg(value_name = "FILE")]
    archive: PathBuf,
}

/// Make a snapshot of a file that was exported
///
/// What the snapshot lies on must be on this server: the `host` image is, others where they were
/// pulled.
#[derive(clap::Args, Debug)]
pub(super) struct ImportArgs {
    /// The file; standard input where it is `-`
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    /// A word to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

/// Send a snapshot to a registry
///
/// As the image that an export gives, with all that it lies on but for the `host` image, so that
/// other programs can run it. The credentials are those that `docker login` has kept.
#[derive(clap::Args, Debug)]
pub(super) struct PushArgs {
    /// Its id or name
    snapshot: String,
    /// The name that it is to have there, such as `registry.example/team/work:built`
    #[arg(value_name = "REFERENCE")]
    target: String,
}

/// Make a snapshot of one that was pushed to a registry
///
/// The image that it lies on is taken along where it is not on this server.
#[derive(clap::Args, Debug)]
pub(super) struct PullArgs {
    /// Its name in the registry
    reference: String,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    /// A word to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

pub(super) async fn push(cx: &Context<'_>, args: PushArgs) -> Result<(), CliError> {
    let PushArgs { snapshot, target } = args;
    let mut signals = Signals::watch()?;
    let what = format!("pushing {target}");
    let request = PushSnapshot { target };
    let pushing = cx.client.push_snapshot(&snapshot, &request);
    let done = followed(cx, &what, pushing, &mut signals).await?;
    if cx.output.json {
        return cx.output.value(&done);
    }
    done.digest.iter().try_for_each(|digest| cx.output.line(digest))
}

pub(super) async fn pull(cx: &Context<'_>, args: PullArgs) -> Result<(), CliError> {
    let PullArgs { reference, name, tags } = args;
    let mut signals = Signals::watch()?;
    let what = format!("pulling {reference}");
    let request = PullSnapshot { reference, name, tags: tags.into_iter().collect() };
    let done = followed(cx, &what, cx.client.pull_snapshot(&request), &mut signals).await?;
    done.snapshot.iter().try_for_each(|snapshot| came(cx, snapshot))
}

/// Tells of a snapshot that has come.
fn came(cx: &Context<'_>, snapshot: &Snapshot) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(snapshot);
    }
    cx.output.line(snapshot.name.as_ref().unwrap_or(&snapshot.id))?;
    let (size, files) = (bytes(snapshot.bytes), snapshot.files);
    cx.output.talk(&format!("{}: {size} in {files} files", snapshot.id));
    Ok(())
}

pub(super) async fn export(cx: &Context<'_>, args: ExportArgs) -> Result<(), CliError> {
    if args.archive.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            return Err(CliError::usage("an archive is not written to a terminal; name a file"));
        }
        let mut source = cx.client.export_snapshot(&args.snapshot).await?;
        while let Some(piece) = source.chunk().await? {
            cx.output.bytes(&mut io::stdout().lock(), &piece)?;
        }
        return Ok(());
    }
    let target = Target::make(&args.archive).map_err(failed(&args.archive))?;
    let copied = cx.wait("packing the snapshot", copy(cx, &args.snapshot, &target)).await?;
    target.finish().map_err(failed(&args.archive))?;
    if cx.output.json {
        let path = std::path::absolute(&args.archive).unwrap_or(args.archive);
        return cx.output.value(&serde_json::json!({ "file": path, "size": copied }));
    }
    cx.output.talk(&format!("wrote {} to {}", bytes(copied), args.archive.display()));
    Ok(())
}

async fn copy(cx: &Context<'_>, snapshot: &str, target: &Target<'_>) -> Result<u64, CliError> {
    let mut source = cx.client.export_snapshot(snapshot).await?;
    let mut copied = 0;
    while let Some(piece) = source.chunk().await? {
        (&target.file).write_all(&piece).map_err(CliError::local("write the file"))?;
        copied += piece.len() as u64;
    }
    Ok(copied)
}

pub(super) async fn import(cx: &Context<'_>, args: ImportArgs) -> Result<(), CliError> {
    let name = args.name.as_deref();
    let imported = async {
        if args.archive.as_os_str() == "-" {
            let input = tokio::fs::File::from_std(
                rustix::io::dup(io::stdin())
                    .map_err(io::Error::from)
                    .map_err(CliError::local("read the archive"))?
                    .into(),
            );
            return Ok(cx.client.import_snapshot(name, &args.tags, input).await?);
        }
        let opened =
            std::fs::File::open(&args.archive).map_err(CliError::local("open the archive"));
        let input = tokio::fs::File::from_std(opened?);
        Ok::<Snapshot, CliError>(cx.client.import_snapshot(name, &args.tags, input).await?)
    };
    came(cx, &cx.wait("unpacking the snapshot", imported).await?)
}
