//! The reference page of settings, made from their table.

use std::fmt::Write as _;

use super::SETTINGS;

/// The page `docs/configuration.md`.
#[cfg_attr(not(test), expect(dead_code, reason = "a test writes and compares the page"))]
pub(super) fn page() -> String {
    let mut page = String::from(HEAD);
    for setting in SETTINGS {
        let default = setting.default.map_or("none".to_owned(), |default| format!("`{default}`"));
        let text = setting.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (name, variable) = (setting.name, setting.name.to_ascii_uppercase());
        let kind = (setting.kind)();
        // Writing to a string does not fail.
        write!(
            page,
            "\n## `{name}`\n\n{text}\n\n* Takes: {kind}\n* Default: {default}\n\
             * Environment: `WARREN_{variable}`\n"
        )
        .unwrap_or_default();
    }
    page
}

const HEAD: &str = "\
# Configuration

<!-- Generated from crates/warren/src/config/table.rs. To write it anew:
     UPDATE=1 cargo test -p warren configuration_page -->

Every setting can be given in four places; the later of these wins:

1. the default;
2. the file `warren.toml`: `/etc/warren/warren.toml` for root, else `$XDG_CONFIG_HOME/warren/warren.toml`
   (usually `~/.config/warren/warren.toml`), or the file that `--config` or `WARREN_CONFIG` names;
3. the environment;
4. the flag `--set NAME=VALUE`, with any command.

A name that does not exist is an error in each of them, and so is a value of the wrong kind. A server reads its
settings when it starts: `warren serve --stop` ends a running one, and the next command starts one anew. Sandboxes
live on meanwhile.

```toml
memory = \"2 GiB\"
cpus = 1.5
lifetime = \"1h\"
network = \"none\"
```
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_page_is_what_the_table_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        crate::golden::check(file, &page());
    }
}
