//! `warren snapshot`

use std::{collections::BTreeSet, process::ExitCode};

use warren_api::snapshot::{ChangeSnapshot, CreateSnapshot, ListSnapshots, Snapshot, SnapshotKind};

use super::{Context, diff, snapshot_transfer};
use crate::{clock, error::CliError};

/// Save what sandboxes' files are, and look after what was saved
#[derive(clap::Args, Debug)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

/// What to do with snapshots.
#[derive(clap::Subcommand, Debug)]
enum SnapshotCommand {
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Info(InfoArgs),
    Diff(DiffArgs),
    Export(snapshot_transfer::ExportArgs),
    Import(snapshot_transfer::ImportArgs),
    Push(snapshot_transfer::PushArgs),
    Pull(snapshot_transfer::PullArgs),
    Tag(TagArgs),
    Rename(RenameArgs),
    Rm(RmArgs),
}

/// Save what a sandbox's files are
///
/// As they are at one moment: a running sandbox stands still for it, and goes on. `warren create
/// --snapshot` makes sandboxes of it, `warren rollback` takes the sandbox back to it.
#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// The sandbox's id or name
    sandbox: String,
    /// What to call it
    #[arg(long)]
    name: Option<String>,
    /// A word to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Also keep the environment that the sandbox was given, which may hold secrets
    #[arg(long)]
    with_env: bool,
    /// Also keep the memory of its processes, where the server can
    #[arg(long)]
    processes: bool,
}

/// List snapshots as a tree
#[derive(clap::Args, Debug)]
struct ListArgs {
    /// Only those of this sandbox
    #[arg(long, value_name = "SANDBOX")]
    sandbox: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
}

/// Show all that is known of a snapshot
#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// Its id or name
    snapshot: String,
}

/// Show how the files of two snapshots differ
///
/// With one alone, what was changed since the snapshot that it was made on. A line is `A` for what
/// was added, `M` for what was changed and `D` for what was removed.
#[derive(clap::Args, Debug)]
struct DiffArgs {
    /// The snapshot to start from, by id or name, or the only one
    #[arg(value_name = "FROM")]
    from: String,
    /// The snapshot to compare it with
    #[arg(value_name = "TO")]
    to: Option<String>,
    #[command(flatten)]
    how: diff::HowArgs,
}

/// Give a snapshot tags, or take them away
#[derive(clap::Args, Debug)]
struct TagArgs {
    /// Its id or name
    snapshot: String,
    /// Tags to give
    #[arg(value_name = "TAG")]
    tags: Vec<String>,
    /// A tag to take away; may be repeated
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
}

/// Give a snapshot another name
#[derive(clap::Args, Debug)]
struct RenameArgs {
    /// Its id or name
    snapshot: String,
    /// Its new name; an empty one takes its name away
    name: String,
}

/// Remove snapshots
///
/// What was made from them goes on: the files that it needs stay until it is gone.
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

pub(crate) async fn snapshot(cx: &Context<'_>, args: SnapshotArgs) -> Result<ExitCode, CliError> {
    match args.command {
        SnapshotCommand::Create(args) => create(cx, args).await?,
        SnapshotCommand::List(args) => list(cx, args).await?,
        SnapshotCommand::Info(args) => {
            let snapshot = cx.client.get_snapshot(&args.snapshot).await?;
            match cx.output.json {
                true => cx.output.value(&snapshot)?,
                false => show(cx, &snapshot)?,
            }
        }
        SnapshotCommand::Diff(args) => {
            let named = |name: String| format!("snapshot:{name}");
            let (from, to) = match args.to {
                Some(to) => (Some(named(args.from)), named(to)),
                None => (None, named(args.from)),
            };
            return diff::compare(cx, from, to, &args.how).await;
        }
        SnapshotCommand::Export(args) => snapshot_transfer::export(cx, args).await?,
        SnapshotCommand::Import(args) => snapshot_transfer::import(cx, args).await?,
        SnapshotCommand::Push(args) => snapshot_transfer::push(cx, args).await?,
        SnapshotCommand::Pull(args) => snapshot_transfer::pull(cx, args).await?,
        SnapshotCommand::Tag(args) => tag(cx, args).await?,
        SnapshotCommand::Rename(args) => {
            let change = ChangeSnapshot { name: Some(args.name), tags: None };
            let changed = cx.client.change_snapshot(&args.snapshot, &change).await?;
            answer(cx, &changed, "renamed")?;
        }
        SnapshotCommand::Rm(args) => {
            for snapshot in &args.snapshots {
                cx.client.delete_snapshot(snapshot).await?;
                cx.output.talk(&format!("removed {snapshot}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(cx: &Context<'_>, args: CreateArgs) -> Result<(), CliError> {
    let request = CreateSnapshot {
        name: args.name,
        tags: args.tags.into_iter().collect(),
        kind: args.processes.then_some(SnapshotKind::Memory),
        with_env: args.with_env,
    };
    let made = cx.client.create_snapshot(&args.sandbox, &request);
    let made = cx.wait("saving the files", made).await?;
    if cx.output.json {
        return cx.output.value(&made);
    }
    cx.output.line(made.name.as_ref().unwrap_or(&made.id))?;
    let still = made.frozen_us.unwrap_or_default();
    cx.output.talk(&format!(
        "{}: {} in {} files; the sandbox stood still for {:.1} ms",
        made.id,
        bytes(made.bytes),
        made.files,
        still as f64 / 1000.0
    ));
    Ok(())
}

async fn list(cx: &Context<'_>, args: ListArgs) -> Result<(), CliError> {
    let sandbox = match args.sandbox {
        Some(name) => Some(cx.client.get_sandbox(&name).await?.id),
        None => None,
    };
    let found = cx.client.list_snapshots(&ListSnapshots { sandbox, tag: args.tag }).await?;
    if cx.output.json {
        return cx.output.value(&found);
    }
    if cx.output.quiet {
        return found.snapshots.iter().try_for_each(|it| cx.output.line(&it.id));
    }
    let rows: Vec<_> =
        tree(&found.snapshots).into_iter().map(|(depth, it)| row(depth, it)).collect();
    cx.output.table(["ID", "NAME", "SANDBOX", "SIZE", "FILES", "AGE", "TAGS"], &rows)
}

/// The snapshots in the order of a walk through their tree, each with its depth.
fn tree(all: &[Snapshot]) -> Vec<(usize, &Snapshot)> {
    let known: BTreeSet<&str> = all.iter().map(|it| it.id.as_str()).collect();
    let parent = |it: &Snapshot| it.parent.clone().filter(|id| known.contains(id.as_str()));
    let mut waiting: Vec<(usize, &Snapshot)> =
        all.iter().rev().filter(|it| parent(it).is_none()).map(|it| (0, it)).collect();
    let mut ordered = Vec::with_capacity(all.len());
    while let Some((depth, snapshot)) = waiting.pop() {
        ordered.push((depth, snapshot));
        let children = all.iter().rev().filter(|it| parent(it).as_ref() == Some(&snapshot.id));
        waiting.extend(children.map(|it| (depth + 1, it)));
    }
    ordered
}

fn row(depth: usize, snapshot: &Snapshot) -> [String; 7] {
    [
        format!("{}{}", "  ".repeat(depth.min(16)), snapshot.id),
        snapshot.name.clone().unwrap_or_default(),
        snapshot.sandbox_id.clone().unwrap_or_default(),
        bytes(snapshot.bytes),
        snapshot.files.to_string(),
        clock::distance(clock::now(), snapshot.created_at),
        snapshot.tags.iter().cloned().collect::<Vec<_>>().join(","),
    ]
}

async fn tag(cx: &Context<'_>, args: TagArgs) -> Result<(), CliError> {
    if args.tags.is_empty() && args.remove.is_empty() {
        return Err(CliError::usage("expected a tag to give, or --remove TAG"));
    }
    let mut tags = cx.client.get_snapshot(&args.snapshot).await?.tags;
    tags.retain(|tag| !args.remove.contains(tag));
    tags.extend(args.tags);
    let change = ChangeSnapshot { name: None, tags: Some(tags) };
    let changed = cx.client.change_snapshot(&args.snapshot, &change).await?;
    answer(cx, &changed, "tagged")
}

fn answer(cx: &Context<'_>, snapshot: &Snapshot, what: &str) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(snapshot);
    }
    cx.output.talk(&format!("{} is {what}", snapshot.id));
    Ok(())
}

fn show(cx: &Context<'_>, snapshot: &Snapshot) -> Result<(), CliError> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let tags = snapshot.tags.iter().cloned().collect::<Vec<_>>().join(", ");
    let lines = [
        ("id", snapshot.id.clone()),
        ("name", optional(&snapshot.name)),
        ("tags", if tags.is_empty() { "-".to_owned() } else { tags }),
        ("parent", optional(&snapshot.parent)),
        ("sandbox", optional(&snapshot.sandbox_id)),
        ("image", snapshot.image.clone()),
        ("layers", snapshot.layers.to_string()),
        ("size", format!("{} in {} files", bytes(snapshot.bytes), snapshot.files)),
        ("user", snapshot.user.clone()),
        ("workdir", snapshot.workdir.clone()),
        ("created", snapshot.created_at.to_string()),
    ];
    lines.iter().try_for_each(|(name, value)| cx.output.line(&format!("{name:<8} {value}")))
}

/// A number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, parent: Option<&str>) -> Snapshot {
        let json = serde_json::json!({
            "id": id, "parent": parent, "kind": "filesystem", "image": "host", "layers": 1,
            "bytes": 0, "files": 0, "user": "user", "workdir": "/", "profile": "default",
            "network": "open", "created_at": "2026-11-21T10:00:00.000Z",
            "limits": {"cpu_millis": 1, "memory_bytes": 1, "pids": 1, "open_files": 1},
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn children_come_below_their_parents_oldest_first() {
        let all = [
            snapshot("a", None),
            snapshot("b", Some("a")),
            snapshot("c", None),
            snapshot("d", Some("a")),
            snapshot("e", Some("b")),
            snapshot("f", Some("elsewhere")),
        ];
        let order: Vec<_> = tree(&all).iter().map(|(depth, it)| (*depth, it.id.clone())).collect();
        let expected = [(0, "a"), (1, "b"), (2, "e"), (1, "d"), (0, "c"), (0, "f")];
        assert_eq!(order, expected.map(|(depth, id)| (depth, id.to_owned())));
    }
}
