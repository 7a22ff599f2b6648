//! `COPY` and `ADD`.

use futures::StreamExt as _;
use warren_dockerfile::recipe::{Copy, CopyFrom, CopySource};

use super::{Built, key::Key, layer::StepSandbox, stage::Running};
use crate::{
    error::SandboxError,
    exec::{Command, Exec},
    guest::filesystem::FileKind,
    sandbox::Setup,
    spec::Network,
    templates::{
        facade::{files_error, stored_id},
        files::{Contents, InlineFile, Pick, Picked, Place},
    },
};

/// The most bytes that are copied out of another stage by one step.
const MOST_BYTES: u64 = 8 << 30;

/// A copy with its variables filled in.
#[derive(Clone)]
struct Filled {
    destination: String,
    /// Whether the destination was written as a directory.
    into: bool,
    chown: Option<String>,
    mode: Option<u32>,
    inline: Vec<InlineFile>,
    pick: Pick,
}

impl Running<'_> {
    /// Copies files. Says whether the result was found.
    pub(super) async fn copy(
        &mut self,
        copy: &Copy,
        stages: &[Option<Built>],
    ) -> Result<bool, SandboxError> {
        let filled = self.fill(copy)?;
        let (tree, key) = match &copy.from {
            CopyFrom::Context => {
                let context = self.builder.request.context.as_deref().unwrap_or_default();
                (self.tree(context), self.copy_key(copy, &filled))
            }
            CopyFrom::Files(hash) => (self.tree(hash), self.copy_key(copy, &filled)),
            CopyFrom::Stage(index) => {
                let stage = stages.get(*index).cloned().flatten();
                let stage = stage.ok_or(SandboxError::Broken("a copy from no stage"))?;
                return self.copy_from(copy, filled, &stage).await;
            }
            CopyFrom::Image(name) => {
                let image = self.builder.base(name).await?;
                return self.copy_from(copy, filled, &image).await;
            }
        };
        let picked = match filled.pick.sources.is_empty() {
            true => Picked::default(),
            false if copy.from == CopyFrom::Context && self.builder.request.context.is_none() => {
                let reason = "there is none, and a step copies from it";
                return Err(SandboxError::invalid("context", reason));
            }
            false => {
                let files = self.builder.templates.files()?;
                files.inspect(&tree, &filled.pick).await.map_err(files_error)?
            }
        };
        let key = key.with(&picked.digest).finish();
        if self.found(&key) {
            return Ok(true);
        }
        let sandbox = self.open(Network::None).await?;
        self.place(&sandbox, &filled, &tree, &picked).await?;
        self.keep(key, sandbox).await?;
        Ok(false)
    }

    /// Copies out of what another stage or image is.
    async fn copy_from(
        &mut self,
        copy: &Copy,
        filled: Filled,
        source: &Built,
    ) -> Result<bool, SandboxError> {
        // What is there follows from what it was made from: nothing need be read to know it.
        let key = self.copy_key(copy, &filled).with(&source.key).finish();
        if self.found(&key) {
            return Ok(true);
        }
        let setup = Setup {
            env: Default::default(),
            image_env: Default::default(),
            user: "root".into(),
            workdir: "/".into(),
        };
        let opened = StepSandbox::open(self.builder, &source.image, setup, Network::None).await;
        let other = opened?;
        let paths = self.sources(&other, &filled.pick.sources).await?;
        let sandbox = self.open(Network::None).await?;
        let into = filled.into || paths.len() > 1;
        let filled = Filled { into, ..filled };
        let tree = stored_id(&self.builder.caller, &format!("{}-copy", self.builder.build().id));
        for path in paths {
            let copied = self.copy_path(&other, &sandbox, &filled, (&path, &tree)).await;
            let files = self.builder.templates.files()?;
            files.remove(&tree).await.map_err(files_error)?;
            copied?;
        }
        drop(other);
        self.keep(key, sandbox).await?;
        Ok(false)
    }

    /// The paths that sources name in another sandbox.
    async fn sources(
        &self,
        other: &StepSandbox,
        sources: &[String],
    ) -> Result<Vec<String>, SandboxError> {
        let mut paths = Vec::new();
        for source in sources {
            let path = match warren_dockerfile::ignore::clean(source).as_str() {
                "." => "/".to_owned(),
                clean => format!("/{clean}"),
            };
            let Some((directory, pattern)) = split_pattern(&path) else {
                paths.push(path);
                continue;
            };
            let found = other.handle.guest().glob(Some("root"), &directory, pattern).await;
            let mut found = found.map_err(|error| other.explain(error))?.paths;
            if found.is_empty() {
                let reason = format!("nothing fits `{source}` there");
                return Err(SandboxError::BuildFailed { reason });
            }
            paths.append(&mut found);
        }
        Ok(paths)
    }

    /// Copies one path from one sandbox to another, by way of the tree `tree`.
    async fn copy_path(
        &self,
        from: &StepSandbox,
        to: &StepSandbox,
        filled: &Filled,
        (path, tree): (&str, &str),
    ) -> Result<(), SandboxError> {
        let files = self.builder.templates.files()?;
        let guest = from.handle.guest();
        let is_directory = match guest.stat(Some("root"), path).await {
            Ok(found) if found.kind == FileKind::Directory => true,
            // A link is followed, as Docker does with a source.
            Ok(found) if found.kind == FileKind::Symlink => {
                guest.list_directory(Some("root"), path, 1).await.is_ok()
            }
            Ok(_) => false,
            Err(error) => return Err(from.explain(error)),
        };
        if filled.chown.is_none() && filled.mode.is_none() && filled.pick.exclude.is_empty() {
            return self.carry(from, to, filled, (path, is_directory)).await;
        }
        let opened = guest.read_archive(Some("root"), path).await;
        let archive = opened.map_err(|error| from.explain(error))?;
        let archive = archive.map(|piece| piece.map_err(Into::into)).boxed();
        files.take(tree, archive, MOST_BYTES).await.map_err(files_error)?;
        let name = path.rsplit('/').next().unwrap_or_default();
        let source = if is_directory { "." } else { name }.to_owned();
        let pick = Pick { sources: vec![source], ..filled.pick.clone() };
        let picked = files.inspect(tree, &pick).await.map_err(files_error)?;
        let filled = Filled { pick, ..filled.clone() };
        self.place(to, &filled, tree, &picked).await
    }

    /// Copies one path from one sandbox to another as it is, with owners and all bits of modes.
    async fn carry(
        &self,
        from: &StepSandbox,
        to: &StepSandbox,
        filled: &Filled,
        (path, is_directory): (&str, bool),
    ) -> Result<(), SandboxError> {
        let guest = to.handle.guest();
        let found = guest.stat(Some("root"), &filled.destination).await;
        let is_there = found.as_ref().is_ok_and(|found| found.kind == FileKind::Directory);
        let into = is_directory || filled.into || is_there;
        let (directory, name) = match filled.destination.rsplit_once('/') {
            Some((directory, name)) if !into && !name.is_empty() => {
                (if directory.is_empty() { "/" } else { directory }, Some(name))
            }
            _ => (filled.destination.as_str(), None),
        };
        if guest.stat(Some("root"), directory).await.is_err() {
            let made = guest.make_directory(Some("root"), directory).await;
            made.map_err(|error| to.explain(error))?;
        }
        let opened = from.handle.guest().read_archive_as(Some("root"), path, name).await;
        let archive = opened.map_err(|error| from.explain(error))?;
        unpack(to, directory, archive.map(|piece| piece.map_err(Into::into)).boxed()).await
    }

    /// Brings files to where they belong.
    async fn place(
        &self,
        sandbox: &StepSandbox,
        filled: &Filled,
        tree: &str,
        picked: &Picked,
    ) -> Result<(), SandboxError> {
        let files = self.builder.templates.files()?;
        let guest = sandbox.handle.guest();
        let single = match (&picked.single, filled.inline.as_slice()) {
            (Some(name), []) => Some(name.clone()),
            (None, [file]) if picked.entries == 0 => Some(file.name.clone()),
            _ => None,
        };
        let is_directory = filled.into || single.is_none() || {
            let found = guest.stat(Some("root"), &filled.destination).await;
            found.is_ok_and(|found| found.kind == FileKind::Directory)
        };
        let (directory, name) = match (is_directory, filled.destination.rsplit_once('/')) {
            (false, Some((directory, name))) if !name.is_empty() => {
                (if directory.is_empty() { "/" } else { directory }, Some(name.to_owned()))
            }
            _ => (filled.destination.as_str(), None),
        };
        let missing = self.missing_above(sandbox, &filled.destination).await;
        if is_directory && guest.stat(Some("root"), directory).await.is_err() {
            // Also where nothing is in what is copied.
            let made = guest.make_directory(Some("root"), directory).await;
            made.map_err(|error| sandbox.explain(error))?;
        }
        if picked.entries > 0 {
            let place = Place { name: name.clone(), mode: filled.mode };
            let packed = files.pack(tree, &filled.pick, &place).await.map_err(files_error)?;
            unpack(sandbox, directory, packed).await?;
        }
        if !filled.inline.is_empty() {
            let mut inline = filled.inline.clone();
            if let (Some(name), [file]) = (&name, inline.as_mut_slice()) {
                file.name.clone_from(name);
            }
            let packed = files.inline(inline).await.map_err(files_error)?;
            unpack(sandbox, directory, packed).await?;
        }
        for archive in &picked.archives {
            let bytes = files.read(tree, archive).await.map_err(files_error)?;
            unpack(sandbox, &filled.destination, bytes).await?;
        }
        match &filled.chown {
            Some(owner) => {
                let names = self.arrived(filled, tree, picked, directory, name).await?;
                let all = missing.into_iter().chain(names.clone()).collect();
                self.own(sandbox, "chown", &["-R", "-h", &with_group(owner)], all).await?;
                match filled.mode.filter(|mode| mode & 0o6000 != 0) {
                    // These bits go with the owner that they were set for.
                    Some(mode) => {
                        let mode = format!("{mode:o}");
                        self.own(sandbox, "chmod", &["-R", &mode], names).await
                    }
                    None => Ok(()),
                }
            }
            None => Ok(()),
        }
    }

    /// The uppermost directory of a path that is not there yet.
    async fn missing_above(&self, sandbox: &StepSandbox, path: &str) -> Option<String> {
        let guest = sandbox.handle.guest();
        let above = path.match_indices('/').skip(1).filter_map(|(at, _)| path.get(..at));
        for directory in above {
            if guest.stat(Some("root"), directory).await.is_err() {
                return Some(directory.to_owned());
            }
        }
        None
    }

    /// The paths that a copy has made.
    async fn arrived(
        &self,
        filled: &Filled,
        tree: &str,
        picked: &Picked,
        directory: &str,
        name: Option<String>,
    ) -> Result<Vec<String>, SandboxError> {
        if let Some(name) = name {
            return Ok(vec![format!("{}/{name}", directory.trim_end_matches('/'))]);
        }
        if !picked.archives.is_empty() {
            return Ok(vec![directory.to_owned()]);
        }
        let files = self.builder.templates.files()?;
        let mut names = match picked.entries {
            0 => Vec::new(),
            _ => files.names(tree, &filled.pick).await.map_err(files_error)?,
        };
        names.extend(filled.inline.iter().map(|file| file.name.clone()));
        let directory = directory.trim_end_matches('/');
        Ok(names.into_iter().map(|name| format!("{directory}/{name}")).collect())
    }

    /// Changes who copied files belong to and what they may, by the image's own programs.
    async fn own(
        &self,
        sandbox: &StepSandbox,
        program: &str,
        arguments: &[&str],
        paths: Vec<String>,
    ) -> Result<(), SandboxError> {
        for some in paths.chunks(500) {
            let words = [program].into_iter().chain(arguments.iter().copied()).chain(["--"]);
            let mut argv: Vec<_> = words.map(str::to_owned).collect();
            argv.extend_from_slice(some);
            let command = Command { argv, user: Some("root".to_owned()), ..Command::default() };
            let failed = |reason: String| {
                let reason = format!("`--chown`, which needs `{program}` in the image: {reason}");
                SandboxError::BuildFailed { reason }
            };
            let handle = std::sync::Arc::clone(&sandbox.handle);
            let started = Exec::start(handle, &command).await;
            let mut exec = started.map_err(|error| failed(error.to_string()))?;
            let outcome = exec.outcome(4 << 10).await?;
            if outcome.end.exit_code != 0 {
                return Err(failed(String::from_utf8_lossy(&outcome.stderr).trim().to_owned()));
            }
        }
        Ok(())
    }

    fn fill(&self, copy: &Copy) -> Result<Filled, SandboxError> {
        let written = self.filled(&copy.destination)?;
        let chown = copy.chown.as_ref().map(|owner| self.filled(owner)).transpose()?;
        if let Some(owner) = &chown {
            check_owner(owner)?;
        }
        let mode = copy.chmod.as_ref().map(|mode| self.filled(mode)).transpose()?;
        let mode = mode.map(|mode| check_mode(&mode)).transpose()?;
        let (mut inline, mut sources) = (Vec::new(), Vec::new());
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => sources.push(self.filled(path)?),
                CopySource::Inline { name, content, expand } => {
                    let content =
                        if *expand { self.filled_text(content)? } else { content.clone() };
                    let mode = mode.unwrap_or(0o644);
                    inline.push(InlineFile { name: name.clone(), content: content.into(), mode });
                }
            }
        }
        let into = written.ends_with('/')
            || matches!(written.as_str(), "." | "..")
            || written.ends_with("/.")
            || copy.sources.len() > 1;
        let destination = self.absolute(&written);
        crate::plan::check_absolute("COPY", &destination)?;
        let pick = Pick { sources, exclude: copy.exclude.clone(), unpack: copy.unpack };
        Ok(Filled { destination, into, chown, mode, inline, pick })
    }

    /// The text of a here-document: variables are filled in, quotes stay.
    fn filled_text(&self, text: &str) -> Result<String, SandboxError> {
        let quoted: String = text
            .chars()
            .flat_map(|one| match one {
                '"' | '\'' => vec!['\\', one],
                one => vec![one],
            })
            .collect();
        self.filled(&quoted)
    }

    fn copy_key(&self, copy: &Copy, filled: &Filled) -> Key {
        let Filled { destination, into, chown, mode, inline, pick } = filled;
        let mode = mode.map(|mode| mode.to_string()).unwrap_or_default();
        let flags = [*into, copy.unpack].map(|flag| if flag { "1" } else { "" });
        let inline = inline.iter().flat_map(|file| {
            [file.name.as_str(), std::str::from_utf8(&file.content).unwrap_or_default()]
        });
        self.key("copy")
            .with_all([destination, chown.as_deref().unwrap_or_default(), &mode])
            .with_all(flags)
            .with_all(inline)
            .with_all(pick.sources.iter().map(String::as_str))
            .with_all(pick.exclude.iter().map(String::as_str))
    }

    fn tree(&self, id: &str) -> String {
        stored_id(&self.builder.caller, id)
    }
}

async fn unpack(
    sandbox: &StepSandbox,
    directory: &str,
    archive: Contents,
) -> Result<(), SandboxError> {
    let unpacked = sandbox.handle.guest().write_archive_with_owners(directory, archive).await;
    unpacked.map(drop).map_err(|error| sandbox.explain(error))
}

/// The directory before the first part that is a pattern, and the rest; none for a plain path.
fn split_pattern(path: &str) -> Option<(String, &str)> {
    let mut at = 0;
    for part in path.split('/') {
        if warren_dockerfile::glob::Pattern::is_pattern(part) {
            let (directory, pattern) = path.split_at_checked(at)?;
            let directory = directory.trim_end_matches('/');
            return Some((if directory.is_empty() { "/" } else { directory }.to_owned(), pattern));
        }
        at += part.len() + 1;
    }
    None
}

/// An owner with a group, as `chown` takes it: a name alone brings the group that its user has, a
/// number the group of the same number, as Docker does.
fn with_group(owner: &str) -> String {
    match owner.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("{owner}:{owner}"),
        false if owner.contains(':') => owner.to_owned(),
        false => format!("{owner}:"),
    }
}

fn check_owner(owner: &str) -> Result<(), SandboxError> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 32
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let (user, group) = owner.split_once(':').unwrap_or((owner, "0"));
    match part(user) && part(group) {
        true => Ok(()),
        false => {
            let reason = format!("`--chown={owner}`: expected `user` or `user:group`");
            Err(SandboxError::invalid("COPY", reason))
        }
    }
}

fn check_mode(mode: &str) -> Result<u32, SandboxError> {
    let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| {
        let reason =
            format!("`--chmod={mode}`: expected permission bits such as `755`, at most `7777`");
        SandboxError::invalid("COPY", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_where_it_begins() {
        let split =
            |path| split_pattern(path).map(|(directory, rest)| format!("{directory} {rest}"));
        assert_eq!(split("/a/b"), None);
        assert_eq!(split("/a/*/c").as_deref(), Some("/a */c"));
        assert_eq!(split("/*").as_deref(), Some("/ *"));
    }

    #[test]
    fn owners_and_modes_have_a_form() {
        assert!(["a", "1000:1000", "www-data:www-data"].iter().all(|it| check_owner(it).is_ok()));
        assert!(["", ":", "-R", "a:b:c", "a b"].iter().all(|it| check_owner(it).is_err()));
        let groups = ["a", "a:b", "1000"].map(with_group);
        assert_eq!(groups, ["a:", "a:b", "1000:1000"]);
        assert_eq!(check_mode("0755").unwrap(), 0o755);
        assert_eq!(check_mode("4755").unwrap(), 0o4755);
        assert!(["14755", "x", "888"].iter().all(|it| check_mode(it).is_err()));
    }
}
