//! Trees of files in memory. Their archives are lines, `NAME=CONTENT`, with zeros behind them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    spec::Image,
    templates::files::{BuildFiles, Contents, FilesError, InlineFile, Pick, Picked, Place, Taken},
};

type Tree = BTreeMap<String, String>;

/// Trees that nobody's disk holds.
#[derive(Debug, Default)]
pub struct FakeFiles {
    trees: Mutex<HashMap<String, Tree>>,
}

impl FakeFiles {
    /// An archive of these files.
    pub fn archive(files: &[(&str, &str)]) -> Contents {
        let tree = files.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect();
        packed(&tree)
    }

    /// The trees that there are.
    pub fn trees(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn picked(&self, id: &str, pick: &Pick) -> Result<Tree, FilesError> {
        let trees = self.lock();
        let tree = trees.get(id).ok_or_else(|| FilesError::NotFound { id: id.to_owned() })?;
        let mut found = Tree::new();
        for source in &pick.sources {
            let wanted = source.trim_matches('/');
            let fits = |name: &str| {
                wanted == "." || name == wanted || name.starts_with(&format!("{wanted}/"))
            };
            let some: Tree = tree
                .iter()
                .filter(|(name, _)| fits(name))
                .map(|(name, content)| {
                    let below = name.strip_prefix(&format!("{wanted}/"));
                    (below.unwrap_or(name).to_owned(), content.clone())
                })
                .collect();
            if some.is_empty() {
                return Err(FilesError::NoSource { source_path: source.clone() });
            }
            found.extend(some);
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn packed(tree: &Tree) -> Contents {
    let mut bytes: Vec<u8> = tree
        .iter()
        .flat_map(|(name, content)| format!("{name}={content}\n").into_bytes())
        .collect();
    bytes.extend([0; 512]);
    stream::once(async { Ok(bytes.into()) }).boxed()
}

#[async_trait]
impl BuildFiles for FakeFiles {
    async fn take(&self, id: &str, archive: Contents, most: u64) -> Result<Taken, FilesError> {
        let pieces: Vec<Bytes> = archive.try_collect().await.map_err(FilesError::Broken)?;
        let text = String::from_utf8_lossy(&pieces.concat()).into_owned();
        if text.len() as u64 > most {
            return Err(FilesError::Refused { reason: "the archive is too large".to_owned() });
        }
        let line = |line: &str| {
            let (name, content) = line.split_once('=')?;
            Some((name.to_owned(), content.to_owned()))
        };
        let tree: Tree = text.trim_end_matches('\0').lines().filter_map(line).collect();
        let taken = Taken { entries: tree.len() as u64, bytes: text.len() as u64 };
        self.lock().insert(id.to_owned(), tree);
        Ok(taken)
    }

    async fn has(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    async fn inspect(&self, id: &str, pick: &Pick) -> Result<Picked, FilesError> {
        let tree = self.picked(id, pick)?;
        let exact = pick.sources.len() == 1 && tree.len() == 1;
        let single =
            tree.keys().next().filter(|name| exact && pick.sources.contains(name)).cloned();
        let entries = tree.len() as u64;
        Ok(Picked { digest: format!("{tree:?}"), entries, single, archives: Vec::new() })
    }

    async fn names(&self, id: &str, pick: &Pick) -> Result<Vec<String>, FilesError> {
        Ok(self.picked(id, pick)?.into_keys().collect())
    }

    async fn pack(&self, id: &str, pick: &Pick, place: &Place) -> Result<Contents, FilesError> {
        let mut tree = self.picked(id, pick)?;
        if let Some(name) = &place.name {
            tree = tree.into_values().map(|content| (name.clone(), content)).collect();
        }
        Ok(packed(&tree))
    }

    async fn read(&self, id: &str, path: &str) -> Result<Contents, FilesError> {
        Err(FilesError::NoSource { source_path: format!("{id}/{path}") })
    }

    async fn inline(&self, files: Vec<InlineFile>) -> Result<Contents, FilesError> {
        let text = |file: InlineFile| {
            (file.name, String::from_utf8_lossy(&file.content).trim_end().to_owned())
        };
        Ok(packed(&files.into_iter().map(text).collect()))
    }

    async fn remove(&self, id: &str) -> Result<(), FilesError> {
        self.lock().remove(id);
        Ok(())
    }

    async fn prune(&self, _older_than: Duration) -> Result<(), FilesError> {
        Ok(())
    }

    fn empty(&self) -> Image {
        Image::Directory("/empty".into())
    }
}
