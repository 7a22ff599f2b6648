//! Reference pages. The binary knows its options best, so it prints them.

use anyhow::Result;

use super::Generated;
use crate::{shell, workspace::Workspace};

/// A page and the arguments of `warren` that print it.
const PAGES: [(&str, &[&str]); 0] = [];

/// Each page as the binary prints it.
pub(super) fn generate(workspace: &Workspace) -> Result<Vec<Generated>> {
    PAGES.iter().map(|(path, print)| page(workspace, path, print)).collect()
}

fn page(workspace: &Workspace, path: &str, print: &[&str]) -> Result<Generated> {
    let mut warren = shell::cargo(&workspace.root);
    warren.args(["run", "--quiet", "--workspace", "--all-features", "--bin", "warren", "--"]);
    Ok(Generated { path: path.to_owned(), text: shell::output(warren.args(print))? })
}
