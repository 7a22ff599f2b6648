//! What is there: `ls`, `stat`, `glob`.

use warren_api::files::{FileInfo, FileKind, FileList};

use super::{Context, Place};
use crate::{clock, config::Size, error::CliError};

pub(super) async fn list(
    cx: &Context<'_>,
    place: &Place,
    user: Option<&str>,
    depth: u32,
) -> Result<(), CliError> {
    let list = cx.client.list_files(&place.sandbox, &place.path, user, depth).await?;
    show_list(cx, &list, depth)
}

/// Prints what is in a directory.
pub(in crate::commands) fn show_list(
    cx: &Context<'_>,
    list: &FileList,
    depth: u32,
) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(list);
    }
    if cx.output.quiet {
        return list.entries.iter().try_for_each(|it| cx.output.line(&printable(&it.path)));
    }
    // Deeper ones are told apart by their paths.
    let name = |info: &FileInfo| if depth > 1 { info.path.clone() } else { info.name.clone() };
    let row = |info: &FileInfo| row(info, &name(info));
    let rows: Vec<_> = list.entries.iter().map(row).collect();
    cx.output.table(["MODE", "OWNER", "GROUP", "SIZE", "AGE", "NAME"], &rows)
}

pub(super) async fn stat(
    cx: &Context<'_>,
    place: &Place,
    user: Option<&str>,
) -> Result<(), CliError> {
    let info = cx.client.stat_file(&place.sandbox, &place.path, user).await?;
    show_info(cx, &info)
}

/// Prints what is at a path.
pub(in crate::commands) fn show_info(cx: &Context<'_>, info: &FileInfo) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(info);
    }
    let kind = match info.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "link",
        FileKind::Other => "other",
    };
    let modified = info.modified_at.map(|at| at.to_string());
    let target = info.symlink_target.as_deref().map(printable);
    for (name, value) in [
        ("path", Some(printable(&info.path))),
        ("kind", Some(kind.to_owned())),
        ("size", Some(info.size.to_string())),
        ("mode", Some(printable(&info.mode))),
        ("owner", Some(format!("{}:{}", printable(&info.owner), printable(&info.group)))),
        ("modified", modified),
        ("target", target),
    ] {
        if let Some(value) = value {
            cx.output.line(&format!("{:<10}{value}", format!("{name}:")))?;
        }
    }
    Ok(())
}

pub(super) async fn glob(
    cx: &Context<'_>,
    place: &Place,
    user: Option<&str>,
    pattern: &str,
) -> Result<(), CliError> {
    let found = cx.client.glob_files(&place.sandbox, &place.path, user, pattern).await?;
    if cx.output.json {
        return cx.output.value(&found);
    }
    for path in &found.paths {
        cx.output.line(&printable(path))?;
    }
    if found.truncated {
        cx.output.warn("there are more");
    }
    Ok(())
}

fn row(info: &FileInfo, name: &str) -> [String; 6] {
    let kind = match info.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => '?',
    };
    let age = info.modified_at.map(|at| clock::distance(clock::now(), at));
    let target = info.symlink_target.as_deref().map(|it| format!(" -> {}", printable(it)));
    [
        format!("{kind}{}", printable(&info.mode)),
        printable(&info.owner),
        printable(&info.group),
        Size(info.size).to_string(),
        age.unwrap_or_else(|| "-".to_owned()),
        format!("{}{}", printable(name), target.unwrap_or_default()),
    ]
}

/// A sandbox's word without what would move the cursor, or begin another line.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|it| match it.is_control() {
            true => it.escape_default().collect::<Vec<_>>(),
            false => vec![it],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_move_the_cursor() {
        assert_eq!(printable("ä b"), "ä b");
        assert_eq!(printable("a\n\x1b[2J"), "a\\n\\u{1b}[2J");
    }
}
