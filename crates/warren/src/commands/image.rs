//! `warren image`

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use warren_api::images::{
    Image, ImagesRemoved, ImportImage, PruneImages, PullImage, PushImage, TagImage,
};

use super::{Context, pulling::followed};
use crate::{clock, config::Size, error::CliError, session::Signals};

/// Pull, list and keep images, which sandboxes are made from
///
/// `run` and `create` pull the image that `--image` names where it is not there. Images are named
/// as Docker names them: `python:3.12` is `docker.io/library/python:3.12`.
#[derive(clap::Args, Debug)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

/// What to do with images.
#[derive(clap::Subcommand, Debug)]
enum ImageCommand {
    Pull(PullArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Info(InfoArgs),
    Rm(RmArgs),
    Tag(TagArgs),
    Import(ImportArgs),
    Export(ExportArgs),
    Push(PushArgs),
    Prune(PruneArgs),
}

/// Fetch images from their registries, again where a tag has moved
#[derive(clap::Args, Debug)]
struct PullArgs {
    /// Their names, such as `python:3.12` or `registry.example/team/tool@sha256:..`
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// List images, the newest first
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Show what is known about an image
#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// A name, or the beginning of its id
    image: String,
}

/// Take names away, and images with their last one
///
/// An image that is named by its id goes with all its names. What something is made from stays.
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Give an image one more name
#[derive(clap::Args, Debug)]
struct TagArgs {
    /// A name, or the beginning of its id
    image: String,
    /// The new name
    name: String,
}

/// Take images from an archive, a directory, Docker or containerd
///
/// Archives and directories are in OCI's layout, or archives are what `docker save` writes.
#[derive(clap::Args, Debug)]
struct ImportArgs {
    /// The archive or directory; `-` for an archive at standard input
    #[arg(value_name = "PATH", required_unless_present_any = ["docker", "containerd"])]
    source: Option<PathBuf>,
    /// An image of this machine's Docker
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["source", "containerd"])]
    docker: Option<String>,
    /// An image of this machine's containerd, as `ctr` names it
    #[arg(long, value_name = "IMAGE", conflicts_with = "source")]
    containerd: Option<String>,
    /// The name that an image without one gets
    #[arg(long)]
    name: Option<String>,
}

/// Write an image to an archive
#[derive(clap::Args, Debug)]
struct ExportArgs {
    /// A name, or the beginning of its id
    image: String,
    /// The file to make; `-` for standard output
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// OCI's layout alone, or with what `docker load` of any version wants beside it
    #[arg(long, value_enum, default_value = "oci")]
    format: Format,
}

/// How an archive is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// OCI's layout.
    Oci,
    /// The same, with Docker's own list.
    Docker,
}

/// Send an image to a registry
///
/// With the credentials that `docker login` has kept.
#[derive(clap::Args, Debug)]
struct PushArgs {
    /// A name, or the beginning of its id
    image: String,
    /// The name that it is to have there; its own where absent
    target: Option<String>,
}

/// Remove images without a name
#[derive(clap::Args, Debug)]
struct PruneArgs {
    /// Also images with a name, where nothing is made from them
    #[arg(long, short)]
    all: bool,
}

pub(crate) async fn image(cx: &Context<'_>, args: ImageArgs) -> Result<ExitCode, CliError> {
    match args.command {
        ImageCommand::Pull(args) => pull(cx, args).await?,
        ImageCommand::List(ListArgs {}) => list(cx).await?,
        ImageCommand::Info(args) => cx.output.value(&cx.client.get_image(&args.image).await?)?,
        ImageCommand::Rm(args) => rm(cx, args).await?,
        ImageCommand::Tag(TagArgs { image, name }) => {
            let tagged = cx.client.tag_image(&TagImage { image, tag: name }).await?;
            show(cx, &[tagged])?;
        }
        ImageCommand::Import(args) => import(cx, args).await?,
        ImageCommand::Export(args) => export(cx, args).await?,
        ImageCommand::Push(args) => push(cx, args).await?,
        ImageCommand::Prune(PruneArgs { all }) => {
            let wanted = PruneImages { all };
            let pruning = cx.client.prune_images(&wanted);
            let removed = cx.wait("removing images", pruning).await?;
            tell_removed(cx, &removed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pull(cx: &Context<'_>, args: PullArgs) -> Result<(), CliError> {
    let mut signals = Signals::watch()?;
    let mut pulled = Vec::new();
    for reference in args.images {
        let what = format!("pulling {reference}");
        let request = PullImage { reference };
        let done = followed(cx, &what, cx.client.pull_image(&request), &mut signals).await?;
        pulled.extend(done.images);
    }
    show(cx, &pulled)
}

/// Prints images as what a command made.
fn show(cx: &Context<'_>, images: &[Image]) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(&serde_json::json!({ "images": images }));
    }
    images.iter().try_for_each(|image| cx.output.line(&image.id))
}

async fn list(cx: &Context<'_>) -> Result<(), CliError> {
    let list = cx.client.list_images().await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    if cx.output.quiet {
        return list.images.iter().try_for_each(|image| cx.output.line(&image.id));
    }
    let mut rows = Vec::new();
    for image in &list.images {
        let nameless = ["(no name)".to_owned()];
        let names = if image.references.is_empty() { &nameless[..] } else { &image.references };
        rows.extend(names.iter().map(|name| row(name, image)));
    }
    cx.output.table(["NAME", "ID", "SIZE", "USED", "AGE"], &rows)
}

fn row(name: &str, image: &Image) -> [String; 5] {
    let digits = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    [
        name.to_owned(),
        digits.get(..12).unwrap_or(digits).to_owned(),
        // Rounded up: nothing is shown as nothing.
        Size(image.bytes.div_ceil(1 << 20) << 20).to_string(),
        if image.in_use { "yes" } else { "no" }.to_owned(),
        clock::distance(clock::now(), image.pulled_at),
    ]
}

async fn rm(cx: &Context<'_>, args: RmArgs) -> Result<(), CliError> {
    let mut removed = ImagesRemoved::default();
    for image in args.images {
        let ImagesRemoved { references, images, bytes } = cx.client.remove_image(&image).await?;
        removed.references.extend(references);
        removed.images.extend(images);
        removed.bytes += bytes;
    }
    tell_removed(cx, &removed)
}

fn tell_removed(cx: &Context<'_>, removed: &ImagesRemoved) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(removed);
    }
    for name in &removed.references {
        cx.output.talk(&format!("removed the name {name}"));
    }
    for image in &removed.images {
        cx.output.talk(&format!("removed image {image}"));
    }
    cx.output.talk(&format!("{} came free", Size(removed.bytes >> 10 << 10)));
    Ok(())
}

async fn import(cx: &Context<'_>, args: ImportArgs) -> Result<(), CliError> {
    let ImportArgs { source, docker, containerd, name } = args;
    let mut signals = Signals::watch()?;
    let images = match source {
        Some(path) if path.is_dir() => {
            let path = std::path::absolute(&path).map_err(CliError::local("find the directory"))?;
            let path = Some(path.to_string_lossy().into_owned());
            let request = ImportImage { path, name, ..ImportImage::default() };
            let importing = cx.client.import_image(&request);
            followed(cx, "importing", importing, &mut signals).await?.images
        }
        Some(path) => {
            let standard_input = path.as_os_str() == "-";
            let path = if standard_input { PathBuf::from("/dev/stdin") } else { path };
            let file = tokio::fs::File::open(&path).await;
            let open = CliError::local("open the archive");
            upload(cx, name, file.map_err(open)?).await?
        }
        None => {
            let request = ImportImage { path: None, docker, containerd, name };
            let importing = cx.client.import_image(&request);
            followed(cx, "importing", importing, &mut signals).await?.images
        }
    };
    show(cx, &images)
}

async fn upload(
    cx: &Context<'_>,
    name: Option<String>,
    archive: impl tokio::io::AsyncRead + Send + Unpin + 'static,
) -> Result<Vec<Image>, CliError> {
    let importing = cx.client.import_archive(name.as_deref(), archive);
    let imported = cx.wait("importing", importing).await?;
    imported.notes.iter().for_each(|note| cx.output.talk(note));
    Ok(imported.images)
}

async fn export(cx: &Context<'_>, args: ExportArgs) -> Result<(), CliError> {
    let format = match args.format {
        Format::Oci => "oci",
        Format::Docker => "docker",
    };
    let mut archive = cx.client.export_image(&args.image, Some(format)).await?;
    if args.output.as_os_str() == "-" {
        while let Some(piece) = archive.chunk().await? {
            cx.output.bytes(&mut std::io::stdout().lock(), &piece)?;
        }
        return Ok(());
    }
    let failed = CliError::local::<std::io::Error>;
    // What is half-written has another name, and goes when this fails.
    let directory = args.output.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(std::path::Path::new("."));
    let half = directory.join(format!(".warren-export-{}", std::process::id()));
    let written = async {
        let mut file = std::fs::File::create(&half).map_err(failed("make the archive"))?;
        let copying = async {
            while let Some(piece) = archive.chunk().await? {
                file.write_all(&piece).map_err(failed("write the archive"))?;
            }
            file.sync_all().map_err(failed("write the archive"))
        };
        cx.wait("exporting", copying).await?;
        std::fs::rename(&half, &args.output).map_err(failed("name the archive"))
    };
    let written = written.await;
    if written.is_err() {
        std::fs::remove_file(&half).ok();
    }
    written
}

async fn push(cx: &Context<'_>, args: PushArgs) -> Result<(), CliError> {
    let mut signals = Signals::watch()?;
    let what = format!("pushing {}", args.target.as_ref().unwrap_or(&args.image));
    let request = PushImage { image: args.image, target: args.target };
    let done = followed(cx, &what, cx.client.push_image(&request), &mut signals).await?;
    if cx.output.json {
        return cx.output.value(&done);
    }
    done.digest.iter().try_for_each(|digest| cx.output.line(digest))
}
