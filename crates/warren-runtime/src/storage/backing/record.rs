//! The record of a pool: a few lines of text.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{Backing, BackingError, Filesystem, Source, failed};

/// Its name in the data directory.
const RECORD: &str = "pool.record";
/// Where the next one is written.
const NEW: &str = "pool.record.new";
/// Says what is under way; there is none at other times.
const INTENT: &str = "pool.record.intent";

/// What is under way with a pool. With it and the record it can be told after a crash which of the
/// two storage directories counts, and what is left of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// One is made. With a record it is there, and what it was filled from is to go.
    Make,
    /// One is taken away. Without a record it is gone, and what it held is to take its place.
    Leave,
}

impl Intent {
    fn text(self) -> &'static str {
        match self {
            Self::Make => "make\n",
            Self::Leave => "leave\n",
        }
    }
}

/// Says what is about to happen, on the disk when this returns.
pub(super) fn intend(data_dir: &Path, intent: Intent) -> Result<(), BackingError> {
    put(data_dir, INTENT, intent.text()).map_err(failed("write down what is about to happen"))
}

/// What was under way when the last one who did something about the pool ended.
pub(super) fn intent(data_dir: &Path) -> Result<Option<Intent>, BackingError> {
    let path = data_dir.join(INTENT);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed("read what was under way with the pool"))?,
    };
    let found = [Intent::Make, Intent::Leave].into_iter().find(|it| it.text() == text);
    found.map(Some).ok_or_else(|| BackingError::Record {
        path,
        problem: "expected the line make or leave".to_owned(),
    })
}

/// Nothing is under way any more, for good when this returns.
pub(super) fn done(data_dir: &Path) -> Result<(), BackingError> {
    drop_file(data_dir, INTENT).map_err(failed("write down that it is done"))
}

/// The pool of this data directory, if one is recorded.
pub(super) fn read(data_dir: &Path) -> Result<Option<Backing>, BackingError> {
    let path = data_dir.join(RECORD);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| BackingError::Record {
            path: path.clone(),
            problem: error.to_string(),
        })?,
    };
    let parsed = parse(data_dir, &text);
    parsed.map(Some).ok_or_else(|| BackingError::Record {
        path,
        problem: "expected the lines driver, source, uuid and most that `warren setup storage` \
                  writes"
            .to_owned(),
    })
}

/// Writes it, on the disk when this returns.
pub(super) fn write(backing: &Backing) -> Result<(), BackingError> {
    let source = match &backing.source {
        Source::File => "file".to_owned(),
        Source::Device(path) => path.display().to_string(),
    };
    let text = format!(
        "driver {}\nsource {source}\nuuid {}\nmost {}\n",
        backing.filesystem.name(),
        backing.id,
        backing.most_bytes
    );
    put(&backing.data_dir, RECORD, &text).map_err(failed("write down the pool"))
}

fn put(data_dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = data_dir.join(NEW);
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, data_dir.join(name))?;
    sync(data_dir)
}

/// Removes it, for good when this returns. One that is gone is no error.
pub(super) fn forget(data_dir: &Path) -> Result<(), BackingError> {
    drop_file(data_dir, RECORD).map_err(failed("remove the record of the pool"))
}

fn drop_file(data_dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(data_dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync(data_dir),
    }
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn parse(data_dir: &Path, text: &str) -> Option<Backing> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let source = match field("source")? {
        "file" => Source::File,
        path if path.starts_with('/') => Source::Device(PathBuf::from(path)),
        _ => return None,
    };
    Some(Backing {
        data_dir: data_dir.to_owned(),
        filesystem: Filesystem::named(field("driver")?)?,
        source,
        most_bytes: field("most")?.parse().ok()?,
        id: field("uuid").filter(|it| it.len() == 36)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_then_gone() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(read(data.path()).unwrap(), None);
        for source in [Source::File, Source::Device("/dev/a b".into())] {
            let backing = Backing {
                data_dir: data.path().to_owned(),
                filesystem: Filesystem::Btrfs,
                source,
                most_bytes: 1 << 40,
                id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            };
            write(&backing).unwrap();
            assert_eq!(read(data.path()).unwrap(), Some(backing));
        }
        forget(data.path()).unwrap();
        forget(data.path()).unwrap();
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_under_way_is_known_until_it_is_done() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(intent(data.path()).unwrap(), None);
        for expected in [Intent::Make, Intent::Leave] {
            intend(data.path(), expected).unwrap();
            assert_eq!(intent(data.path()).unwrap(), Some(expected));
        }
        done(data.path()).unwrap();
        done(data.path()).unwrap();
        assert_eq!(intent(data.path()).unwrap(), None);
        fs::write(data.path().join(INTENT), "sell\n").unwrap();
        assert!(intent(data.path()).unwrap_err().to_string().contains("pool.record.intent"));
    }

    #[test]
    fn what_is_no_record_is_an_error_and_not_taken_for_no_pool() {
        let data = tempfile::tempdir().unwrap();
        for text in ["", "driver btrfs\n", "driver zfs\nsource file\nuuid x\nmost 1\n"] {
            fs::write(data.path().join(RECORD), text).unwrap();
            let error = read(data.path()).unwrap_err();
            assert!(error.to_string().contains("pool.record cannot be read"), "{error}");
        }
    }
}
