//! Machines whose work is a branch of a repository, and cannot be lost.
//!
//! A [`Machine`] is anything that runs programs and keeps files: a sandbox, a virtual machine, a
//! directory. A [`GitMachine`] puts git on top of one: a start clones a repository and checks out the
//! session's branch, a pause commits, a stop commits and pushes, and the next start of the same
//! session goes on where the last one ended, on any machine.
//!
//! ```no_run
//! # async fn example(machine: impl warren_git::Machine) -> Result<(), Box<dyn std::error::Error>> {
//! use warren_git::{GitMachine, Identity, RunOptions};
//!
//! let agent = GitMachine::builder(machine, "https://git.example/team/agent.git")?
//!     .token("the token, read from somewhere safe")?
//!     .session("feature-work")?
//!     .identity(Identity::new("Agent", "agent@git.example")?)
//!     .env("MODEL", "large")
//!     .on_start(|agent| async move {
//!         agent.run("npm ci", RunOptions::default()).await?;
//!         Ok(())
//!     })
//!     .on_event(|event, _| eprintln!("[{}] {event:?}", event.name()))
//!     .build();
//!
//! agent.start().await?;
//! let tests = agent.run("npm test", RunOptions::default()).await?;
//! println!("{}", tests.stdout_text());
//!
//! agent.pause().await?; // commits what has changed
//! println!("{}", agent.diff().await?.text()); // wakes the machine for a moment
//! agent.resume().await?;
//!
//! agent.run("npm run fix", RunOptions::default()).await?;
//! agent.stop().await?; // commits, pushes, and only then stops
//! # Ok(())
//! # }
//! ```
//!
//! `examples/custom_machine.rs` is a whole program with a machine of its own.
//!
//! | module | what |
//! |---|---|
//! | [`machine`] | the seam: what a machine must do |
//! | [`session`] | [`GitMachine`]: start, pause, resume, stop, and git in between |
//! | [`config`] | what can be said about a session |
//! | [`access`] | how a machine speaks with the remote, and where the token is meanwhile |
//! | [`events`] | what is told |
//! | [`name`] | names of branches and addresses of repositories |
//! | [`error`] | why something failed |
//! | [`wire`] | git's protocol, for a broker between machine and remote |
//! | `git` | one git command: its words, settings and environment |
//! | `porcelain` | what git answers |
//!
//! # What holds
//!
//! * *No stop loses work.* [`GitMachine::stop`] stops a machine only when everything in its repository
//!   is on the remote: the branch, what was not committed, other branches, stashes. Files that
//!   `.gitignore` names are not work. Where the push fails, the machine is paused and the error says
//!   so. Where it cannot wait, [`GitMachine::stop_within`] writes a bundle first. Only
//!   [`GitMachine::discard`] lets go of work.
//! * *A branch that moved* is taken in by rebase or merge ([`OnMoved`]); where that is not possible,
//!   commits go to `session/BRANCH/rescue-N` on the remote. Nothing is ever forced over what others
//!   have pushed.
//! * *No shell reads a name.* Git is run with lists of words, every end is looked at, and an event says
//!   what has happened, never what was tried.
//! * *A repository runs nothing outside.* Hooks, filters and settings of a repository act inside the
//!   machine alone. Hooks run for [`GitMachine::commit`], whose caller asked for it, and for no other
//!   command: none gets near a credential, and none keeps work from being saved.
//! * *Operations take turns.* Whoever calls what at the same time, one git works in the repository;
//!   who stops waiting stops nothing half-way.
//!
//! The machine needs `git` 2.31 or newer, `/bin/sh`, `cp` and `rm`; `git-lfs` for large files.

pub mod access;
pub mod config;
pub mod error;
pub mod events;
pub mod machine;
pub mod name;
pub mod session;
pub mod wire;

mod git;
mod porcelain;

pub use access::{
    Access, AccessError, Anonymous, Credential, Grant, Rewritten, Right, Token, Wanted,
};
pub use config::{Builder, CloneOptions, ConfigError, Identity, OnMoved, PushOn};
pub use error::{GitError, HookError};
pub use events::Event;
pub use machine::{Chunk, Command, Ended, Machine, MachineError, MachineState, Output, Stdin};
pub use name::{BranchName, NameError, Repository, RepositoryError};
pub use porcelain::RemoteFault;
pub use session::{
    Branch, Bundle, Commit, Diff, Forced, GitMachine, LogEntry, Logged, Pull, Push, PushOutcome,
    RunOptions, Saved, Status,
};
