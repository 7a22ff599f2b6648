//! Files by name: what is there, what it is called, what happens to it. Contents are [`files`].
//!
//! [`files`]: crate::files

pub(crate) mod path;
