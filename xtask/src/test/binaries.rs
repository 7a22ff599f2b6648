//! Building all tests at once and finding the binaries.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Tier;
use crate::{shell, workspace::Workspace};

/// One test binary.
#[derive(Debug)]
pub(super) struct Binary {
    pub(super) tier: Tier,
    pub(super) package: String,
    pub(super) target: String,
    pub(super) executable: PathBuf,
    /// The directory of its manifest, where cargo would start it.
    pub(super) directory: PathBuf,
}

/// What cargo says about a thing it made; other messages lack the fields.
#[derive(Deserialize)]
struct Message {
    package_id: String,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every test and the binary that the end-to-end tests start.
pub(super) fn build(workspace: &Workspace) -> Result<Vec<Binary>> {
    let mut warren = shell::cargo(&workspace.root);
    // The same choice of features as below, so that nothing is compiled twice.
    warren.args(["build", "--workspace", "--all-features", "--bin", "warren"]);
    shell::run(&mut warren).context("build warren")?;

    let mut cargo = shell::cargo(&workspace.root);
    cargo.args(["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let text = shell::output(&mut cargo).context("build the tests")?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    Ok(messages.filter_map(|message| binary(workspace, message)).collect())
}

/// Where [`build`] puts the binary under test.
pub(super) fn warren(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/warren")
}

fn binary(workspace: &Workspace, message: Message) -> Option<Binary> {
    if !message.profile.test {
        return None;
    }
    let package = workspace.packages.iter().find(|package| package.id == message.package_id)?;
    Some(Binary {
        tier: tier(&package.name, &message.target),
        package: package.name.clone(),
        target: message.target.name,
        executable: message.executable?,
        directory: package.manifest_path.parent().unwrap_or(Path::new("/")).to_owned(),
    })
}

fn tier(package: &str, target: &Target) -> Tier {
    if package == "warren-e2e" {
        Tier::EndToEnd
    } else if target.kind.iter().any(|kind| kind == "test") {
        Tier::Integration
    } else {
        Tier::Unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_belongs_to_the_tier_of_its_kind() {
        let target = |kind: &str| Target { name: "x".into(), kind: vec![kind.into()] };
        assert_eq!(tier("warren-core", &target("lib")), Tier::Unit);
        assert_eq!(tier("warren", &target("bin")), Tier::Unit);
        assert_eq!(tier("warren-core", &target("test")), Tier::Integration);
        assert_eq!(tier("warren-e2e", &target("test")), Tier::EndToEnd);
    }

    #[test]
    fn messages_that_are_not_about_binaries_are_passed_over() {
        assert!(serde_json::from_str::<Message>(r#"{"reason":"build-finished"}"#).is_err());
    }
}
