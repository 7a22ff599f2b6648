//! What may not be written where.

use super::{Report, files::TextFile};

/// Files longer than this should be looked at hard.
const LONG_FILE_LINES: usize = 600;

/// Hosts of package registries, in parts: this file is checked like any other. Where a package comes
/// from is its user's configuration, not ours.
const REGISTRIES: [&[&str]; 6] = [
    &["crates", "io"],
    &["pypi", "org"],
    &["pythonhosted", "org"],
    &["npmjs", "org"],
    &["proxy", "golang", "org"],
    &["rubygems", "org"],
];

/// Runs the rules over every file.
pub(crate) fn check(files: &[TextFile], report: &mut Report) {
    for file in files {
        if !is_generated(file) {
            registries(file, report);
        }
        if file.path.ends_with(".rs") {
            long_file(file, report);
            unsafe_code(file, report);
            unfinished(file, report);
            if !is_test_module(file, files) {
                printing(file, report);
                environment(file, report);
            }
        }
    }
}

/// Whether the file is a module that its crate declares for tests only.
fn is_test_module(file: &TextFile, files: &[TextFile]) -> bool {
    let Some((directory, name)) = file.path.rsplit_once('/') else { return false };
    let Some(name) = name.strip_suffix(".rs") else { return false };
    let declared = format!("#[cfg(test)]\nmod {name};");
    let may_declare = |other: &&TextFile| {
        other.path.rsplit_once('/').is_some_and(|(it, _)| it == directory)
            || other.path == format!("{directory}.rs")
    };
    files.iter().filter(may_declare).any(|other| other.text.contains(&declared))
}

/// Lock files name the source of each package; their tool writes them.
fn is_generated(file: &TextFile) -> bool {
    file.path.ends_with("Cargo.lock") || file.path.starts_with("bench/results/")
}

fn registries(file: &TextFile, report: &mut Report) {
    for host in REGISTRIES.map(|parts| parts.join(".")) {
        if let Some(number) = line_with(&file.text, &host) {
            report.finding(format!("{}:{number} names the package registry {host}", file.path));
        }
    }
}

fn long_file(file: &TextFile, report: &mut Report) {
    let lines = production(&file.text).lines().count();
    if lines > LONG_FILE_LINES && !file.path.contains("/generated/") {
        report.remark(format!("{} has {lines} lines without its tests", file.path));
    }
}

/// The compiler denies `unsafe` everywhere; only one crate may lift that.
fn unsafe_code(file: &TextFile, report: &mut Report) {
    if file.path.starts_with("crates/warren-sys/") || is_this_check(file) {
        return;
    }
    for form in ["allow(unsafe_code", "expect(unsafe_code", "warn(unsafe_code"] {
        if let Some(number) = line_with(&file.text, form) {
            report.finding(format!("{}:{number} lifts the ban on unsafe code", file.path));
        }
    }
}

/// Only programs, tools, build scripts and tests speak to people.
fn printing(file: &TextFile, report: &mut Report) {
    let speaks = [
        "crates/warren/",
        "crates/warren-agent/src/main.rs",
        "xtask/",
        "bench/",
        "tests/",
        "fuzz/",
    ];
    let is_test = file.path.contains("/tests/") || file.path.contains("/examples/");
    if speaks.iter().any(|prefix| file.path.starts_with(prefix))
        || is_test
        || file.path.ends_with("/build.rs")
    {
        return;
    }
    for form in ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("] {
        let found = code_lines(&file.text).find(|(_, line)| starts_call(line, form));
        if let Some((number, _)) = found {
            report.finding(format!("{}:{number} prints; only `warren` does", file.path));
        }
    }
}

/// Configuration is read once, in one place.
fn environment(file: &TextFile, report: &mut Report) {
    let reads = ["crates/warren/src/config", "xtask/", "bench/", "tests/", "fuzz/"];
    if reads.iter().any(|prefix| file.path.starts_with(prefix))
        || file.path.contains("/tests/")
        || file.path.ends_with("/build.rs")
    {
        return;
    }
    for form in ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("] {
        if let Some((number, _)) = code_lines(&file.text).find(|(_, line)| line.contains(form)) {
            let path = &file.path;
            report.finding(format!("{path}:{number} reads the environment; `warren::config` does"));
        }
    }
}

/// What is not there is left out, not announced.
fn unfinished(file: &TextFile, report: &mut Report) {
    if is_this_check(file) {
        return;
    }
    for form in ["todo!(", "unimplemented!(", "TODO", "FIXME"] {
        if let Some(number) = line_with(&file.text, form) {
            report.finding(format!("{}:{number} is unfinished: {form}", file.path));
        }
    }
}

fn is_this_check(file: &TextFile) -> bool {
    file.path == "xtask/src/tidy/sources.rs"
}

/// The text up to the tests at its end.
fn production(text: &str) -> &str {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

/// Numbered lines of production code that are not comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = production(text).lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Whether a macro call of exactly this name is on the line: `println!(` is not `eprintln!(`.
fn starts_call(line: &str, form: &str) -> bool {
    line.match_indices(form).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The number of the first line that contains `needle`.
fn line_with(text: &str, needle: &str) -> Option<usize> {
    text.lines().position(|line| line.contains(needle)).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(&[TextFile { path: path.to_owned(), text: text.to_owned() }], &mut report);
        report.findings
    }

    #[test]
    fn a_library_does_not_print() {
        let text = "fn f() {\n    println!(\"x\");\n}\n";
        let expected = ["crates/warren-core/src/a.rs:2 prints; only `warren` does"];
        assert_eq!(findings("crates/warren-core/src/a.rs", text), expected);
        assert_eq!(findings("crates/warren/src/a.rs", text), [""; 0]);
        let in_tests =
            "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() { println!(\"x\"); }\n}\n";
        assert_eq!(findings("crates/warren-core/src/a.rs", in_tests), [""; 0]);
        assert_eq!(findings("crates/warren-core/src/a.rs", "/// println!(\n"), [""; 0]);
    }

    #[test]
    fn unsafe_code_stays_in_one_crate() {
        let text = "#![allow(unsafe_code, reason = \"x\")]\n";
        assert_eq!(findings("crates/warren-sys/src/lib.rs", text), [""; 0]);
        let expected = ["crates/warren-core/src/lib.rs:1 lifts the ban on unsafe code"];
        assert_eq!(findings("crates/warren-core/src/lib.rs", text), expected);
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        let text = "fn f() { let _x = std::env::var(\"HOME\"); }\n";
        assert_eq!(findings("crates/warren/src/config/sources.rs", text), [""; 0]);
        assert_eq!(findings("crates/warren/src/main.rs", text).len(), 1);
    }

    #[test]
    fn a_module_for_tests_may_print_and_ask() {
        let file = |path: &str, text: &str| TextFile { path: path.into(), text: text.into() };
        let files = [
            file("crates/a/src/lib.rs", "#[cfg(test)]\nmod golden;\nmod real;\n"),
            file("crates/a/src/golden.rs", "fn f() { println!(); }\n"),
            file("crates/a/src/real.rs", "fn f() { println!(); }\n"),
        ];
        let mut report = Report::default();
        check(&files, &mut report);
        assert_eq!(report.findings, ["crates/a/src/real.rs:1 prints; only `warren` does"]);
    }

    #[test]
    fn a_registry_is_found_in_any_text() {
        let text = format!("see https://{}/thing\n", ["crates", "io"].join("."));
        assert_eq!(findings("docs/a.md", &text).len(), 1);
        assert_eq!(findings("Cargo.lock", &text), [""; 0]);
    }
}
