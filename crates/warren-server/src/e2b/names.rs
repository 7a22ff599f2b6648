//! What a template is called: `[project/]name[:tag]`, its id, or the same of a snapshot.
//!
//! The tag that goes without saying is `default` here and `latest` in the native API: each is
//! understood where the other is meant. A snapshot's tag is behind a dot in its native name, for
//! aliases have none.

use warren_core::{Caller, SandboxError, id::SnapshotId};

use super::{Refusal, shape::BASE};
use crate::app::App;

/// The tag that goes without saying.
pub(super) const DEFAULT_TAG: &str = "default";

/// What a sandbox is to be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A template, as the native API calls it.
    Template(String),
    /// A snapshot.
    Snapshot(SnapshotId),
    /// Whatever the server makes sandboxes of by itself.
    Default,
}

/// What a text names.
pub(super) fn source(app: &App, caller: &Caller, text: &str) -> Result<Source, Refusal> {
    let (name, tag) = parts(text);
    if let Some(snapshot) = snapshot(app, caller, text) {
        return Ok(Source::Snapshot(snapshot));
    }
    let templates = app.sandboxes.templates();
    let tagged = format!("{name}:{}", tag.unwrap_or(DEFAULT_TAG));
    let candidates = match tag {
        None | Some(DEFAULT_TAG) => vec![tagged, name.to_owned()],
        Some(_) => vec![tagged],
    };
    for candidate in candidates {
        match templates.resolve(caller, &candidate) {
            Ok(_) => return Ok(Source::Template(candidate)),
            Err(SandboxError::NoTemplate { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    match (templates.get(caller, name), tag) {
        (Ok(_), Some(tag)) if tag != DEFAULT_TAG => {
            let message = format!("tag '{tag}' does not exist for template '{name}'");
            Err(Refusal::not_found(message))
        }
        (Err(_), None | Some(DEFAULT_TAG)) if name == BASE => Ok(Source::Default),
        _ => Err(Refusal::not_found(format!("template '{text}' not found"))),
    }
}

/// The caller's snapshot that a text names.
pub(super) fn snapshot(app: &App, caller: &Caller, text: &str) -> Option<SnapshotId> {
    let (name, tag) = parts(text);
    let name = match name.split_once('/') {
        Some((project, name)) if project == caller.owner().as_str() => name,
        Some(_) => return None,
        None => name,
    };
    let found = match name.parse::<SnapshotId>() {
        Ok(id) => app.sandboxes.get_snapshot(caller, id.as_str()),
        Err(_a_name) => app.sandboxes.get_snapshot(caller, &native(name, tag)),
    };
    found.ok().map(|snapshot| snapshot.id)
}

/// What the native API calls a snapshot of this name and tag.
pub(super) fn native(name: &str, tag: Option<&str>) -> String {
    match tag {
        None | Some(DEFAULT_TAG) => name.to_owned(),
        Some(tag) => format!("{name}.{tag}"),
    }
}

/// What these clients call a snapshot that the native API calls so: `project/name:tag`.
pub(super) fn theirs(caller: &Caller, native: &str) -> String {
    let (name, tag) = native.split_once('.').unwrap_or((native, DEFAULT_TAG));
    format!("{}/{name}:{tag}", caller.owner().as_str())
}

/// Name and tag.
pub(super) fn parts(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(name, tag)| (name, Some(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_by_the_name_that_is_told() {
        let caller = Caller::local();
        for (name, tag, told) in [
            ("a-b_c", None, "default/a-b_c:default"),
            ("a", Some("default"), "default/a:default"),
            ("a", Some("v1.2"), "default/a:v1.2"),
        ] {
            let native = native(name, tag);
            assert_eq!(theirs(&caller, &native), told);
            let (found, tag) = parts(told);
            let found = found.split_once('/').unwrap().1;
            assert_eq!(super::native(found, tag), native);
        }
    }
}
