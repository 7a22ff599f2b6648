//! `docs/e2b.md` names a test for each thing that it says of a feature.

use std::{fs, path::Path};

#[test]
fn every_feature_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/e2b.md")).expect("the page");
    let table = page.split("## Features").nth(1).expect("a table of features");
    let mut rows = 0;
    for line in
        table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| feature"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [feature, state, test] = cells[..] else { panic!("three cells: {line}") };
        let known = ["works", "differs", "not yet"];
        assert!(known.iter().any(|it| state.starts_with(it)), "{feature}: {state}");
        if state.starts_with("not yet") {
            continue;
        }
        rows += 1;
        for name in test.split(", ") {
            let name = name.trim_matches('`');
            let (file, function) = name.split_once(':').unwrap_or_else(|| panic!("{name}"));
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{file}"));
            let word = |it: &str| text.contains(&format!("{it}{function}"));
            assert!(word("def ") || word("fn ") || word("test('"), "{file} has no {function}");
        }
    }
    assert!(rows > 30, "{rows} rows");
}
