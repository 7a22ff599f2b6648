//! What goes wrong with archives.

use std::io;

/// Why a tree could not be packed to its end.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file became shorter while it was read; its size was already written.
    #[error("'{name}' became shorter while it was read")]
    Shrunk {
        /// Its name in the archive.
        name: String,
    },
    /// A file could not be read to its end.
    #[error("could not read '{name}'")]
    Read {
        /// Its name in the archive.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why an archive was not unpacked, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no archive, or a damaged one.
    #[error("the archive is broken: {0}")]
    Broken(&'static str),
    /// Its compressed form is damaged.
    #[error("the archive is broken: could not decompress it: {0}")]
    Compressed(#[source] io::Error),
    /// It ends before its end.
    #[error("the archive is broken: it ends too early")]
    Truncated,
    /// An entry that is not unpacked, whoever asks.
    #[error("the archive's entry '{name}' is refused: {reason}")]
    Refused {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than is allowed.
    #[error("the archive has {0}")]
    TooMuch(String),
    /// Whoever wrote the archive says why it is not whole.
    #[error("the archive is not whole: {0}")]
    Reported(String),
    /// The file system refused.
    #[error("could not {operation} '{name}': {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which entry.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// Something that the file system refused: what was tried, and with which entry.
    pub fn io<E: Into<io::Error>>(operation: &'static str, name: &[u8]) -> impl FnOnce(E) -> Self {
        let name = shown(name);
        move |source| Self::Io { operation, name, source: source.into() }
    }

    /// An entry that is not taken, and what is wrong with it.
    #[must_use]
    pub fn refused(name: &[u8], reason: &'static str) -> Self {
        Self::Refused { name: shown(name), reason }
    }
}

/// A name for a message: without control characters, and not too long.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .map(|it| if it.is_control() { '\u{fffd}' } else { it })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
