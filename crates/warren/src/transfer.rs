//! Files and trees between this machine and a sandbox.
//!
//! What comes from a sandbox is hostile: trees are unpacked by `warren-archive`, beneath one
//! directory, and files are made under a name of our own and renamed when they are whole. Nothing
//! follows a link that is already at the last place of a path. Dropping any of it half way, as a
//! signal does, removes what is not whole.

mod receive;
mod send;

pub(crate) use receive::{Target, receive_file, receive_tree};
pub(crate) use send::{Source, open_file, reader, send};

use warren_api::{
    Code,
    client::{Client, ClientError},
    files::FileKind,
};

/// What came of a copy, for people and for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Copied {
    /// Files, directories and links.
    pub(crate) entries: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// Devices, pipes and what else was left out.
    pub(crate) skipped: u64,
}

/// A path in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) sandbox: String,
    pub(crate) path: String,
}

impl Remote {
    /// What is there, if anything.
    ///
    /// # Errors
    ///
    /// As the client's; that the sandbox is not there shows with the next request.
    pub(crate) async fn kind(
        &self,
        client: &Client,
        user: Option<&str>,
    ) -> Result<Option<FileKind>, ClientError> {
        match client.stat_file(&self.sandbox, &self.path, user).await {
            Ok(info) => Ok(Some(info.kind)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A name in the directory that this is.
    pub(crate) fn child(&self, name: &str) -> Self {
        let path = format!("{}/{name}", self.path.trim_end_matches('/'));
        Self { sandbox: self.sandbox.clone(), path }
    }
}

/// The last part of a path, as it was written; none where it names no place of its own (`.`, `..`,
/// `/`, or a path that ends with one of them), which means what is in the directory.
pub(crate) fn last_part(path: &str) -> Option<&str> {
    let last = path.trim_end_matches('/').rsplit('/').next()?;
    (!matches!(last, "" | "." | ".." | "~")).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_last_part_or_means_what_is_in_it() {
        for (path, last) in [
            ("/a/b", Some("b")),
            ("a", Some("a")),
            ("a/", Some("a")),
            ("a/.", None),
            ("a/..", None),
            (".", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(last_part(path), last, "{path}");
        }
    }
}
