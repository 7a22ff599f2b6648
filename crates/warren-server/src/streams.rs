//! How many streams of one sandbox are open, so that nobody's take the descriptors of all others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use warren_api::Code;
use warren_core::{caller::Owner, id::SandboxId};

use crate::error::ApiError;

/// What a stream is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StreamOf {
    /// Output, a conversation, a watch, a port.
    Sandbox(SandboxId),
    /// The events of a project.
    Project(Owner),
    /// Files of a project's sandboxes and snapshots, read from outside.
    Files(Owner),
}

/// The streams that are open.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    most: u32,
    open: Arc<Mutex<HashMap<StreamOf, u32>>>,
}

/// The right to one stream, given back when dropped: it lives in what sends the stream.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    of: StreamOf,
    open: Arc<Mutex<HashMap<StreamOf, u32>>>,
}

impl Streams {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Counts one more stream.
    pub(crate) fn open(&self, of: StreamOf) -> Result<StreamSlot, ApiError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&of).copied().unwrap_or_default();
        if count >= self.most {
            let what = match of {
                StreamOf::Sandbox(_) => "sandbox",
                StreamOf::Project(_) => "project's events",
                StreamOf::Files(_) => "project's files",
            };
            let message = format!("there are {count} streams of this {what}, which is the limit");
            return Err(ApiError::new(Code::ResourceExhausted, message));
        }
        open.insert(of.clone(), count + 1);
        Ok(StreamSlot { of, open: Arc::clone(&self.open) })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back() {
        let streams = Streams::new(2);
        let of = || StreamOf::Sandbox("sb-aaaaaaaaaaaaaaaa".parse().unwrap());
        let (first, _second) = (streams.open(of()).unwrap(), streams.open(of()).unwrap());
        assert_eq!(streams.open(of()).unwrap_err().into_body().code, Code::ResourceExhausted);
        let _events = streams.open(StreamOf::Project(Owner::new("a"))).unwrap();
        drop(first);
        let _third = streams.open(of()).unwrap();
    }

    #[test]
    fn nothing_is_kept_of_what_has_ended() {
        let streams = Streams::new(1);
        drop(streams.open(StreamOf::Project(Owner::new("a"))).unwrap());
        assert!(streams.open.lock().unwrap().is_empty());
    }
}
