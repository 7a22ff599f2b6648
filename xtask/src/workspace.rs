//! The repository as cargo sees it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell;

/// Where things are.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the root manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Members of the workspace, by name.
    pub(crate) packages: Vec<Package>,
}

/// One crate of ours.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name in the manifest.
    pub(crate) name: String,
    /// Cargo's identity for it, as test messages carry it.
    pub(crate) id: String,
    /// Its manifest.
    pub(crate) manifest_path: PathBuf,
    /// What it names in its manifest, all kinds.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The crate's name.
    pub(crate) name: String,
    /// `None` for what the crate itself needs, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo about the workspace that this task was compiled from.
    pub(crate) fn find() -> Result<Self> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut cargo = shell::cargo(here.parent().unwrap_or(&here));
        cargo.args(["metadata", "--format-version", "1", "--no-deps"]);
        let text = shell::output(&mut cargo)?;
        let metadata: Metadata = serde_json::from_str(&text).context("read cargo metadata")?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// The member with this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}
