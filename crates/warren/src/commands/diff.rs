//! `warren diff`, and `warren snapshot diff`

use std::process::ExitCode;

use warren_api::diff::{CompareFiles, DiffAspect, DiffChange, DiffEntry, DiffSide, NoPatch};

use super::Context;
use crate::{config::Size, error::CliError};

/// Show how the files of sandboxes or snapshots differ
///
/// Each is a sandbox or a snapshot, by id or name; `sandbox:NAME` and `snapshot:NAME` are plain
/// where both have one of that name. With one alone, it is compared with what it was made from.
/// A line is `A` for what was added, `M` for what was changed and `D` for what was removed.
#[derive(clap::Args, Debug)]
pub(crate) struct DiffArgs {
    /// Where to start from, or the only one
    #[arg(value_name = "FROM")]
    from: String,
    /// What to compare it with
    #[arg(value_name = "TO")]
    to: Option<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// How files are compared.
#[derive(clap::Args, Debug)]
pub(crate) struct HowArgs {
    /// Show the lines in which texts differ, as `diff -u` does
    #[arg(long, short)]
    patch: bool,
    /// Compare files too that say which sandbox it is, such as /etc/hostname
    #[arg(long)]
    identity: bool,
}

pub(crate) async fn diff(cx: &Context<'_>, args: DiffArgs) -> Result<ExitCode, CliError> {
    let (from, to) = match args.to {
        Some(to) => (Some(args.from), to),
        None => (None, args.from),
    };
    compare(cx, from, to, &args.how).await
}

/// Compares and prints.
pub(crate) async fn compare(
    cx: &Context<'_>,
    from: Option<String>,
    to: String,
    how: &HowArgs,
) -> Result<ExitCode, CliError> {
    let wanted = CompareFiles { from, to, patch: how.patch, identity: how.identity };
    let mut found = cx.client.diff(&wanted).await?;
    while let Some(entry) = found.next().await? {
        if cx.output.json {
            let line = serde_json::to_string(&entry).map_err(CliError::local("write JSON"))?;
            cx.output.line(&line)?;
        } else {
            cx.output.line(&line(&entry, how.patch))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for a person, and the patch below it.
fn line(entry: &DiffEntry, with_patch: bool) -> String {
    let letter = match entry.change {
        DiffChange::Added => 'A',
        DiffChange::Changed => 'M',
        DiffChange::Removed => 'D',
    };
    let mut line = format!("{letter}  {}", shown(&entry.path));
    let note = note(entry);
    if !note.is_empty() {
        line.push_str(&format!("  ({note})"));
    }
    if !with_patch {
        return line;
    }
    match (&entry.patch, entry.no_patch) {
        (Some(patch), _) if !patch.is_empty() => {
            line.push('\n');
            // The lines are the guest's: none may speak to the terminal.
            line.extend(patch.chars().map(|it| match it {
                '\n' | '\t' => it,
                it if it.is_control() => '\u{fffd}',
                it => it,
            }));
            while line.ends_with('\n') {
                line.pop();
            }
        }
        (_, Some(NoPatch::Binary)) => line.push_str("\nBinary files differ"),
        (_, Some(NoPatch::TooLarge)) => line.push_str("\nToo large to compare line by line"),
        _ => {}
    }
    line
}

/// What is worth a note beside the path.
fn note(entry: &DiffEntry) -> String {
    let what = |side: &DiffSide| match (side.kind.as_str(), &side.symlink_target) {
        ("file", _) => Size(side.size).to_string(),
        (_, Some(target)) => format!("-> {}", shown(target)),
        (kind, None) => kind.to_owned(),
    };
    let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
        return entry.before.iter().chain(&entry.after).map(what).collect();
    };
    let notes = entry.differs_in.iter().map(|aspect| match aspect {
        DiffAspect::Kind => format!("{} is now a {}", before.kind, after.kind),
        DiffAspect::Content if before.size == after.size => "content".to_owned(),
        DiffAspect::Content => format!("{} to {}", Size(before.size), Size(after.size)),
        DiffAspect::Link => what(after),
        DiffAspect::Mode => format!("mode {} to {}", before.mode, after.mode),
        DiffAspect::Owner => {
            format!("owner {}:{} to {}:{}", before.uid, before.gid, after.uid, after.gid)
        }
        DiffAspect::Attributes => "extended attributes".to_owned(),
    });
    notes.collect::<Vec<_>>().join(", ")
}

/// Text of a guest, for a terminal.
fn shown(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(kind: &str, size: u64, target: Option<&str>) -> DiffSide {
        let symlink_target = target.map(str::to_owned);
        let mode = "0644".to_owned();
        DiffSide { kind: kind.to_owned(), size, mode, uid: 0, gid: 0, symlink_target }
    }

    fn entry(before: Option<DiffSide>, after: Option<DiffSide>) -> DiffEntry {
        DiffEntry {
            path: "/a\u{1b}b".to_owned(),
            change: match (&before, &after) {
                (None, _) => DiffChange::Added,
                (_, None) => DiffChange::Removed,
                _ => DiffChange::Changed,
            },
            differs_in: Vec::new(),
            before,
            after,
            patch: None,
            no_patch: None,
        }
    }

    #[test]
    fn changes_are_one_line() {
        let check = |entry: &DiffEntry, expected: &str| assert_eq!(line(entry, false), expected);
        check(&entry(None, Some(side("directory", 0, None))), "A  /a\u{fffd}b  (directory)");
        check(&entry(Some(side("symlink", 0, Some("x"))), None), "D  /a\u{fffd}b  (-> x)");
        let mut changed = entry(Some(side("file", 1, None)), Some(side("file", 2, None)));
        changed.differs_in = vec![DiffAspect::Content, DiffAspect::Mode];
        let one = line(&changed, false);
        assert!(one.starts_with("M  /a\u{fffd}b  (") && one.ends_with(", mode 0644 to 0644)"));
        changed.patch = Some("--- a\n+x\u{1b}\n".to_owned());
        assert!(line(&changed, true).ends_with(")\n--- a\n+x\u{fffd}"));
        (changed.patch, changed.no_patch) = (None, Some(NoPatch::Binary));
        assert!(line(&changed, true).ends_with("\nBinary files differ"));
    }
}
