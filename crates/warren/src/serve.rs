//! The server put together: configuration, runtime, store, core, listener.

mod log;

mod post;

pub(crate) use post::Post;

use crate::{
    config::Config,
    dirs::Dirs,
    error::{CliError, Kind},
};

/// Serves until asked to end.
pub(crate) fn serve(config: &Config, dirs: &Dirs, post: Post) -> Result<(), CliError> {
    log::start(config.log, post.background);
    post.sign().map_err(CliError::local("write the lock file"))?;
    Err(CliError::new(Kind::Local, "this build has no server yet"))
}
