//! `warren volume`

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use warren_api::volume::{CopyVolume, CreateVolume, ResizeVolume, Volume, VolumeMount};

use super::{Context, files::list};
use crate::{
    clock,
    config::Size,
    error::CliError,
    session::{Signals, read_input},
    transfer::{self, Target},
};

/// Make, copy and remove volumes, and work with their files
///
/// A volume is a directory that outlives sandboxes; `--volume NAME:PATH[:ro]` of `run` and
/// `create` shows it to as many as want it.
#[derive(clap::Args, Debug)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    command: VolumeCommand,
}

/// A path in a volume.
#[derive(clap::Args, Debug)]
struct Place {
    /// The volume, by id or name
    volume: String,
    /// The path in it, from its root
    #[arg(default_value = "/")]
    path: String,
}

#[derive(Subcommand, Debug)]
enum VolumeCommand {
    /// Make an empty volume
    Create {
        /// Its name: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}`
        name: String,
        /// How much it may hold, such as `10GiB`; needs storage with limits
        #[arg(long, value_name = "SIZE")]
        size: Option<Size>,
    },
    /// List volumes
    List,
    /// Show one volume
    Info {
        /// Its id or name
        volume: String,
    },
    /// Remove volumes with their files; none that a sandbox has
    Rm {
        /// Their ids or names
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Change how much a volume may hold
    Resize {
        /// Its id or name
        volume: String,
        /// Such as `10GiB`; `none` for no limit
        #[arg(value_parser = size_or_none)]
        size: SizeOrNone,
    },
    /// Save what a volume holds now as a volume that nobody writes to
    Snapshot {
        /// Its id or name
        volume: String,
        /// The name of the new one
        name: String,
    },
    /// Make a volume of what another holds now
    Clone {
        /// Its id or name
        volume: String,
        /// The name of the new one
        name: String,
        /// How much it may hold; as much as the other where this does not say
        #[arg(long, value_name = "SIZE")]
        size: Option<Size>,
    },
    /// List a directory
    Ls {
        /// How many levels
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        depth: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Show what is at a path
    Stat {
        #[command(flatten)]
        place: Place,
    },
    /// Print a file
    Cat {
        #[command(flatten)]
        place: Place,
    },
    /// Write a file, and make the directories above it
    Put {
        /// What to write; `-` for standard input
        source: PathBuf,
        /// The volume, by id or name
        volume: String,
        /// The path in it
        path: String,
        /// Its permission bits in octal, such as `0644`
        #[arg(long, value_name = "MODE")]
        mode: Option<String>,
    },
    /// Copy a file out
    Get {
        /// The volume, by id or name
        volume: String,
        /// The path in it
        path: String,
        /// Where it goes; nothing is there afterwards if it did not come whole
        target: PathBuf,
    },
    /// Make a directory and those above it
    Mkdir {
        #[command(flatten)]
        place: Place,
    },
    /// Remove files, and directories with everything in them
    Remove {
        /// The volume, by id or name
        volume: String,
        /// What to remove
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
}

/// A size, or that there is none.
#[derive(Clone, Copy, Debug)]
struct SizeOrNone(Option<u64>);

fn size_or_none(text: &str) -> Result<SizeOrNone, String> {
    match text {
        "none" => Ok(SizeOrNone(None)),
        text => text.parse::<Size>().map(|size| SizeOrNone(Some(size.0))),
    }
}

pub(crate) async fn volume(cx: &Context<'_>, args: VolumeArgs) -> Result<ExitCode, CliError> {
    let mut signals = Signals::watch()?;
    tokio::select! {
        result = act(cx, args.command) => result.map(|()| ExitCode::SUCCESS),
        end = signals.end() => Err(end),
    }
}

async fn act(cx: &Context<'_>, command: VolumeCommand) -> Result<(), CliError> {
    use VolumeCommand as V;
    let client = &cx.client;
    match command {
        V::Create { name, size } => {
            let request = CreateVolume { name, size_bytes: size.map(|it| it.0) };
            made(cx, &client.create_volume(&request).await?)
        }
        V::List => table(cx, &client.list_volumes().await?.volumes),
        V::Info { volume } => show(cx, &client.get_volume(&volume).await?),
        V::Rm { volumes } => {
            for volume in &volumes {
                client.delete_volume(volume).await?;
                cx.output.talk(&format!("removed volume {volume}"));
            }
            json(cx, &serde_json::json!({ "removed": volumes }))
        }
        V::Resize { volume, size } => {
            let request = ResizeVolume { size_bytes: size.0 };
            let resized = client.resize_volume(&volume, &request).await?;
            cx.output.talk(&format!("{} may hold {}", resized.name, limit(&resized)));
            json(cx, &resized)
        }
        V::Snapshot { volume, name } => {
            let request = CopyVolume { name, size_bytes: None };
            let copy = client.snapshot_volume(&volume, &request);
            made(cx, &cx.wait("saving the volume", copy).await?)
        }
        V::Clone { volume, name, size } => {
            let request = CopyVolume { name, size_bytes: size.map(|it| it.0) };
            let copy = client.clone_volume(&volume, &request);
            made(cx, &cx.wait("copying the volume", copy).await?)
        }
        V::Ls { depth, place } => {
            let found = client.list_volume_files(&place.volume, &place.path, depth).await?;
            list::show_list(cx, &found, depth)
        }
        V::Stat { place } => {
            let info = client.stat_volume_file(&place.volume, &place.path).await?;
            list::show_info(cx, &info)
        }
        V::Cat { place } => cat(cx, &place).await,
        V::Put { source, volume, path, mode } => put(cx, &source, (&volume, &path), mode).await,
        V::Get { volume, path, target } => get(cx, (&volume, &path), &target).await,
        V::Mkdir { place } => {
            json(cx, &client.make_volume_directory(&place.volume, &place.path).await?)
        }
        V::Remove { volume, paths } => {
            for path in &paths {
                client.remove_volume_file(&volume, path).await?;
            }
            json(cx, &serde_json::json!({ "removed": paths }))
        }
    }
}

fn json(cx: &Context<'_>, value: &impl serde::Serialize) -> Result<(), CliError> {
    if cx.output.json { cx.output.value(value) } else { Ok(()) }
}

/// Says what was made: its id as data.
fn made(cx: &Context<'_>, volume: &Volume) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(volume);
    }
    cx.output.line(&volume.id)
}

fn limit(volume: &Volume) -> String {
    volume
        .size_bytes
        .map_or_else(|| "as much as there is room for".to_owned(), |it| Size(it).to_string())
}

fn table(cx: &Context<'_>, volumes: &[Volume]) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(&serde_json::json!({ "volumes": volumes }));
    }
    if cx.output.quiet {
        return volumes.iter().try_for_each(|it| cx.output.line(&it.id));
    }
    let row = |it: &Volume| {
        [
            it.name.clone(),
            it.id.clone(),
            it.size_bytes.map_or_else(|| "-".to_owned(), |size| Size(size).to_string()),
            used(it).unwrap_or_else(|| "-".to_owned()),
            if it.read_only { "read-only" } else { "" }.to_owned(),
            it.sandboxes.to_string(),
            clock::distance(clock::now(), it.created_at),
        ]
    };
    let rows: Vec<_> = volumes.iter().map(row).collect();
    cx.output.table(["NAME", "ID", "SIZE", "USED", "", "SANDBOXES", "AGE"], &rows)
}

fn used(volume: &Volume) -> Option<String> {
    let bytes = volume.used_bytes?;
    Some(format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)))
}

fn show(cx: &Context<'_>, volume: &Volume) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(volume);
    }
    let facts = [
        ("id", Some(volume.id.clone())),
        ("name", Some(volume.name.clone())),
        ("size", Some(limit(volume))),
        ("used", used(volume)),
        ("read-only", volume.read_only.then(|| "yes, it is a snapshot".to_owned())),
        ("source", volume.source.clone()),
        ("sandboxes", Some(volume.sandboxes.to_string())),
        ("created", Some(volume.created_at.to_string())),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            cx.output.line(&format!("{name:<10} {value}"))?;
        }
    }
    Ok(())
}

async fn cat(cx: &Context<'_>, place: &Place) -> Result<(), CliError> {
    let mut stream = cx.client.read_volume_file(&place.volume, &place.path, None).await?;
    while let Some(piece) = stream.chunk().await? {
        cx.output.bytes(&mut io::stdout().lock(), &piece)?;
    }
    Ok(())
}

async fn put(
    cx: &Context<'_>,
    source: &Path,
    (volume, path): (&str, &str),
    mode: Option<String>,
) -> Result<(), CliError> {
    let written = if source.as_os_str() == "-" {
        let input = transfer::reader(read_input());
        cx.client.write_volume_file(volume, path, mode.as_deref(), input).await?
    } else {
        let (input, own) = transfer::open_file(source)?;
        let mode = mode.unwrap_or_else(|| format!("{own:04o}"));
        cx.client.write_volume_file(volume, path, Some(&mode), input).await?
    };
    json(cx, &written)
}

async fn get(
    cx: &Context<'_>,
    (volume, path): (&str, &str),
    target: &Path,
) -> Result<(), CliError> {
    let target = Target::of(target, transfer::last_part(path))?;
    let info = cx.client.stat_volume_file(volume, path).await?;
    let mode = u32::from_str_radix(&info.mode, 8).unwrap_or(0o644);
    let stream = cx.client.read_volume_file(volume, path, None).await?;
    let copied = transfer::receive_file(stream, &target, mode).await?;
    json(cx, &copied)
}

/// Reads one `--volume NAME:PATH[:ro]`.
pub(super) fn mount(text: &str) -> Result<VolumeMount, CliError> {
    let wrong = |why: &str| {
        CliError::usage(format!("`--volume {text}`: {why}"))
            .hint("expected NAME:PATH or NAME:PATH:ro, with an absolute path")
    };
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (volume, target) = rest.split_once(':').ok_or_else(|| wrong("no place inside is named"))?;
    if volume.is_empty() {
        return Err(wrong("no volume is named"));
    }
    if !target.starts_with('/') || target.contains(':') {
        return Err(wrong("the place inside is no absolute path"));
    }
    Ok(VolumeMount { volume: volume.to_owned(), target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_with_its_place() {
        let read = mount("data:/data:ro").unwrap();
        assert_eq!(
            (read.volume.as_str(), read.target.as_str(), read.read_only),
            ("data", "/data", true)
        );
        assert!(!mount("data:/data").unwrap().read_only);
        for (bad, expected) in [
            ("data", "no place inside"),
            (":/data", "no volume"),
            ("data:x", "no absolute path"),
            ("data:/x:y", "no absolute path"),
        ] {
            let error = mount(bad).unwrap_err().source.to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        assert!(size_or_none("none").unwrap().0.is_none());
        assert_eq!(size_or_none("1GiB").unwrap().0, Some(1 << 30));
    }
}
