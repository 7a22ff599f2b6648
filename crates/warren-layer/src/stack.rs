//! Layers on top of each other, seen as one tree without mounting them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use crate::attributes::Attributes;
use crate::marks::{Marks, is_opaque, look, open_directory};
use crate::node::Kind;
use crate::walk::{FileError, join, names, open_file, open_root};

/// A directory of one layer, opened when it is needed.
#[derive(Clone, Debug)]
struct Part {
    place: Place,
    /// Device and inode: the same, the same directory.
    id: (u64, u64),
}

#[derive(Clone, Debug)]
enum Place {
    Open(Rc<OwnedFd>),
    /// A name in an open directory.
    In(Rc<OwnedFd>, Vec<u8>),
}

impl Part {
    fn open(&self) -> Result<Rc<OwnedFd>, Errno> {
        match &self.place {
            Place::Open(directory) => Ok(Rc::clone(directory)),
            Place::In(directory, name) => open_directory(&**directory, name).map(Rc::new),
        }
    }
}

/// A directory as all layers together have it.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// Of the layers that have it and are not hidden, the topmost first.
    parts: Vec<Part>,
    /// What is below these layers is hidden.
    is_cut: bool,
    marks: Marks,
}

/// What has a name in a directory of a stack.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) stat: Stat,
    pub(crate) name: Vec<u8>,
    /// Of the layer that it is from.
    parent: Rc<OwnedFd>,
    /// If it is a directory.
    pub(crate) directory: Option<Directory>,
}

impl Item {
    /// Device and inode.
    pub(crate) fn id(&self) -> (u64, u64) {
        id(&self.stat)
    }

    /// The directory of the layer that it is from.
    pub(crate) fn parent(&self) -> &Rc<OwnedFd> {
        &self.parent
    }

    /// Opens it for reading, if it is a file.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        open_file(&*self.parent, &self.name)
    }

    /// What it has besides content, as the topmost layer has it.
    pub(crate) fn attributes(&self) -> Result<Attributes, Errno> {
        match &self.directory {
            Some(directory) => directory.attributes(),
            None => Attributes::at(&*self.parent, &self.name, &self.stat),
        }
    }
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Directory {
    /// The root of a stack: directories, the topmost first.
    pub(crate) fn root<P: AsRef<Path>>(layers: &[P], marks: Marks) -> Result<Self, FileError> {
        let mut parts = Vec::with_capacity(layers.len());
        let mut is_cut = false;
        for layer in layers {
            let path = layer.as_ref();
            let directory = Rc::new(open_root(path)?);
            let fail = |operation| FileError::new(operation, path.as_os_str().as_encoded_bytes());
            let stat = fstat(&*directory).map_err(fail("look at"))?;
            is_cut = is_opaque(&*directory, marks).map_err(FileError::new("look at", b""))?;
            parts.push(Part { place: Place::Open(directory), id: id(&stat) });
            if is_cut {
                break;
            }
        }
        Ok(Self { parts, is_cut, marks })
    }

    /// Whether it is made of the very same directories: nothing in it differs.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let ids = |it: &Self| it.parts.iter().map(|it| it.id).collect::<Vec<_>>();
        ids(self) == ids(other)
    }

    /// Whether it hides what is below these layers.
    pub(crate) fn is_cut(&self) -> Result<bool, Errno> {
        match self.parts.last() {
            // Asked for the parts with others below only.
            Some(last) if !self.is_cut => {
                is_opaque(&*last.open()?, self.marks).map_err(|error| as_errno(&error))
            }
            _ => Ok(self.is_cut),
        }
    }

    /// What the topmost layer has for it.
    pub(crate) fn attributes(&self) -> Result<Attributes, Errno> {
        let top = self.parts.first().ok_or(Errno::NOENT)?.open()?;
        let stat = fstat(&*top)?;
        let mut attributes = Attributes::of(&*top, &stat)?;
        attributes.xattrs.retain(|it| it.0 != self.marks.opaque().as_bytes());
        Ok(attributes)
    }

    /// What is in it, by name; with `whiteouts`, also names that are removed.
    ///
    /// What goes away meanwhile is not in it, or is: a layer may be in use.
    pub(crate) fn list(
        &self,
        path: &[u8],
        whiteouts: bool,
    ) -> Result<BTreeMap<Vec<u8>, Item>, FileError> {
        let mut items: BTreeMap<Vec<u8>, Item> = BTreeMap::new();
        for part in &self.parts {
            let directory = match part.open() {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(FileError::new("open", path))?,
            };
            let names = names(&*directory).map_err(FileError::new("list", path))?;
            for name in names {
                let at = join(path, &name);
                let fail = || FileError::new("look at", &at);
                let Some(stat) = look(&*directory, &name).map_err(fail())? else { continue };
                self.add(&mut items, &directory, name, stat).map_err(fail())?;
            }
        }
        if !whiteouts {
            items.retain(|_, item| item.kind != Kind::Whiteout);
        }
        Ok(items)
    }

    /// Adds what a layer has under a name to what those above it have.
    fn add(
        &self,
        items: &mut BTreeMap<Vec<u8>, Item>,
        directory: &Rc<OwnedFd>,
        name: Vec<u8>,
        stat: Stat,
    ) -> Result<(), Errno> {
        let kind = Kind::of(&stat);
        let place = Place::In(Rc::clone(directory), name.clone());
        let part = Part { place, id: id(&stat) };
        match items.entry(name) {
            Slot::Vacant(slot) => {
                let parts = vec![part];
                let lower = (kind == Kind::Directory).then_some(Self {
                    parts,
                    is_cut: false,
                    marks: self.marks,
                });
                let (name, parent) = (slot.key().clone(), Rc::clone(directory));
                slot.insert(Item { kind, stat, name, parent, directory: lower });
            }
            Slot::Occupied(mut slot) => {
                let Some(upper) = &mut slot.get_mut().directory else { return Ok(()) };
                if upper.is_cut()? || kind != Kind::Directory {
                    upper.is_cut = true;
                } else {
                    upper.parts.push(part);
                }
            }
        }
        Ok(())
    }
}

fn as_errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
