//! A server of one's own, and ways to ask it.

mod census;
mod docker;
mod home;
mod host;
pub(crate) mod http;
mod process;
mod world;

pub(crate) use census::{Census, memory};
pub(crate) use docker::Docker;
pub(crate) use home::{Home, Sandbox};
pub(crate) use host::{Leftovers, is_root, processes_named, wait_at_most, wait_until};
pub(crate) use http::attempt;
pub(crate) use process::{Output, command, kill, run};
pub(crate) use world::{WayOut, World, allowing, denying, in_users_world, in_world};

/// Ends a test that cannot run here. The runner counts the line as a skip, not as a pass.
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("SKIPPED: {}", format_args!($($reason)*));
        return;
    }};
}
pub(crate) use skip;

/// Skips the test where a program that it runs inside a sandbox is not installed: the sandbox has
/// the host's own.
macro_rules! needs {
    ($program:literal) => {
        if !std::path::Path::new("/usr/bin").join($program).exists() {
            $crate::harness::skip!("{} is not installed", $program);
        }
    };
}
pub(crate) use needs;
