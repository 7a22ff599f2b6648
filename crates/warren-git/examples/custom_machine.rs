//! A machine of one's own under a [`GitMachine`]: a directory of this host, and a repository beside it.
//!
//! `cargo run -p warren-git --example custom_machine` works in a temporary directory and prints what
//! happens. It needs `git`.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

#[path = "custom_machine/directory.rs"]
mod directory;

use std::error::Error;

use directory::Directory;
use warren_git::{Command, GitMachine, Machine as _, RunOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let remote = place.path().join("remote.git");

    // Where the work goes: an empty repository.
    let host = Directory::new(place.path());
    host.start().await?;
    let made =
        host.execute(Command::new(["git", "init", "--bare", "--quiet", "remote.git"])).await?;
    println!("made the remote: {}", made.ended);

    for line in ["echo one >> work.txt", "echo two >> work.txt"] {
        let root = place.path().join(line.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let agent =
            GitMachine::builder(Directory::new(&root), &format!("file://{}", remote.display()))?
                .path(format!("{}/repo", root.display()))?
                .session("feature-work")?
                .on_event(|event, _| println!("[{}] {event:?}", event.name()))
                .build();
        agent.start().await?;
        agent.run(line, RunOptions::default()).await?;
        println!("{}", agent.diff().await?.text());
        agent.stop().await?;
    }
    Ok(())
}
