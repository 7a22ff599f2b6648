//! Reference pages under `docs/`. The binary's own tests make and compare them.

use anyhow::Result;

use crate::{shell, workspace::Workspace};

/// What the names of those tests have in common.
const TESTS: &str = "_page_is_what_";

/// Writes every page anew.
///
/// There is nothing to check here: a page that is stale fails a test of the unit tier.
pub(super) fn write(workspace: &Workspace) -> Result<()> {
    let mut cargo = shell::cargo(&workspace.root);
    cargo.args(["test", "--quiet", "--package", "warren", "--bin", "warren", TESTS]);
    shell::run(cargo.env("UPDATE", "1"))
}
