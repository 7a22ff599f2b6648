//! The pages: decision records are on the map, links lead somewhere.

use std::path::{Component, Path, PathBuf};

use super::{Report, files::TextFile};

/// Runs the rules over every page.
pub(crate) fn check(root: &Path, files: &[TextFile], report: &mut Report) {
    decisions(files, report);
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        links(root, page, report);
    }
}

/// Every decision record is linked from `ARCHITECTURE.md`.
fn decisions(files: &[TextFile], report: &mut Report) {
    let map = files.iter().find(|file| file.path == "ARCHITECTURE.md");
    let map = map.map(|file| file.text.as_str()).unwrap_or_default();
    for record in files.iter().filter(|file| file.path.starts_with("docs/adr/")) {
        if !map.contains(&record.path) {
            report.finding(format!("ARCHITECTURE.md does not link to {}", record.path));
        }
    }
}

/// Links to files of the repository lead to one.
fn links(root: &Path, page: &TextFile, report: &mut Report) {
    for link in targets(&page.text) {
        let file = link.split('#').next().unwrap_or_default();
        if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
            continue;
        }
        let directory = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        if !root.join(normal(&directory.join(file))).exists() {
            report.finding(format!("{} links to {file}, which does not exist", page.path));
        }
    }
}

/// The targets of `[text](target)` outside code.
fn targets(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            found.extend(part.split_once(')').map(|(target, _)| target));
        }
    }
    found
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::Normal(part) => normal.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_are_not_links() {
        let text = "[a](one.md) and [b](two.md#x)\n```\n[c](three.md)\n```\n";
        assert_eq!(targets(text), ["one.md", "two.md#x"]);
    }

    #[test]
    fn a_decision_off_the_map_is_found() {
        let file = |path: &str, text: &str| TextFile { path: path.into(), text: text.into() };
        let mut report = Report::default();
        let files = [
            file("ARCHITECTURE.md", "see [x](docs/adr/0001-x.md)"),
            file("docs/adr/0001-x.md", ""),
            file("docs/adr/0002-y.md", ""),
        ];
        decisions(&files, &mut report);
        assert_eq!(report.findings, ["ARCHITECTURE.md does not link to docs/adr/0002-y.md"]);
    }
}
