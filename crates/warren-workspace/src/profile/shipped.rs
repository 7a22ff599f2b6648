//! The profiles that come with the program, as files beside this crate's sources.

const SHIPPED: [(&str, &str); 6] = [
    ("aider", include_str!("../../profiles/aider.toml")),
    ("claude-code", include_str!("../../profiles/claude-code.toml")),
    ("codex", include_str!("../../profiles/codex.toml")),
    ("gemini", include_str!("../../profiles/gemini.toml")),
    ("opencode", include_str!("../../profiles/opencode.toml")),
    ("shell", include_str!("../../profiles/shell.toml")),
];

/// Their names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The text of one.
pub(super) fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(it, _)| *it == name).map(|(_, text)| *text)
}
