//! The templates that come with the repository can be read, and stand on each other.

use std::{collections::BTreeMap, fs, path::Path};

use warren_dockerfile::{parse, plan::Base, scope::Globals};

#[test]
fn every_shipped_template_can_be_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
    let mut names = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        if entry.path().join("warren.toml").is_file() {
            // A list of steps; the command line's own tests read it.
            continue;
        }
        let text = fs::read_to_string(entry.path().join("Dockerfile")).unwrap();
        let recipe = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(recipe.warnings, [], "{name}");
        let globals = Globals::new(&recipe.arguments, BTreeMap::new(), "x86_64", recipe.escape);
        let plan = recipe.plan(None, &globals.unwrap()).unwrap();
        let base = plan.stages.first().unwrap().base.clone();
        let Base::Image(base) = base else { panic!("{name} stands on {base:?}") };
        names.push((name, base));
    }
    names.sort();
    let bases: Vec<_> = names.iter().map(|(name, base)| (name.as_str(), base.as_str())).collect();
    assert_eq!(
        bases,
        [
            ("base", "debian:13"),
            ("claude-code", "template:node"),
            ("codex", "template:node"),
            ("go", "template:base"),
            ("node", "template:base"),
            ("python", "template:base"),
            ("rust", "template:base"),
        ]
    );
}
