//! Tricks with paths through the files API: the agent opens them, so it must not be led outside.

use std::time::Duration;

use warren_api::{client::ClientError, files::MoveFile};

use super::{Attacker, Reached, Row};

const AREA: &str = "file_api";

/// No answer of the files API takes longer, unless the agent hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far up a path goes, to be certain to be at the top.
const UP: &str = "/../../../../../../../../../../../..";

pub(super) async fn attack(attacker: &Attacker<'_>) -> Result<Vec<Row>, ClientError> {
    const ATTACKS: [&str; 7] =
        ["reading", "listing", "writing", "moving", "removing", "special_files", "names"];
    if let Some(why) = attacker.lacks(&["mkdir", "ln", "mkfifo", "rm"]) {
        let skip = |attack| Row::skipped(attacker.profile, AREA, attack, &why);
        return Ok(ATTACKS.map(skip).to_vec());
    }
    let tricks = Tricks::lay(attacker).await?;
    Ok(vec![
        attacker.row(AREA, "reading", tricks.read().await),
        attacker.row(AREA, "listing", tricks.list().await),
        attacker.row(AREA, "writing", tricks.write().await),
        attacker.row(AREA, "moving", tricks.move_out().await),
        attacker.row(AREA, "removing", tricks.remove().await),
        attacker.row(AREA, "special_files", tricks.special_files().await),
        attacker.row(AREA, "names", tricks.names().await?),
    ])
}

/// Links of all kinds, laid inside, and the paths that lead over them to the host's canaries.
struct Tricks<'a> {
    attacker: &'a Attacker<'a>,
    /// Paths of files, each with the host's own path of the file.
    files: Vec<String>,
    /// Paths of the directories around them.
    directories: Vec<String>,
}

impl<'a> Tricks<'a> {
    async fn lay(attacker: &'a Attacker<'a>) -> Result<Self, ClientError> {
        let (mut files, mut directories, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for (number, canary) in attacker.range.outside.canaries.iter().enumerate() {
            let file = canary.display();
            let directory = canary.parent().unwrap_or(canary).display();
            let at = format!("/tmp/tricks{number}");
            lines.push(format!(
                "mkdir -p {at} && cd {at} && ln -s {file} a; ln -s ..{UP}{file} b; \
                 ln -s /proc/self/root c; ln -s / d; ln -s /proc/1/root{file} e; ln -s {directory} f; \
                 ln -s loop loop; ln -s /proc/self/cwd g"
            ));
            let roots = [
                "",
                UP,
                "/proc/1/root",
                "/proc/1/cwd",
                "/proc/self/root",
                "/proc/thread-self/root",
            ];
            let roots = roots.map(str::to_owned).into_iter();
            for root in roots.chain([
                format!("{at}{UP}"),
                format!("{at}/c"),
                format!("{at}/d"),
                format!("{at}/g{UP}"),
            ]) {
                files.push(format!("{root}{file}"));
                directories.push(format!("{root}{directory}"));
            }
            let name = canary.file_name().unwrap_or_default().to_string_lossy();
            files.extend(
                ["a", "b", "e", "loop", &format!("f/{name}")].map(|it| format!("{at}/{it}")),
            );
            directories.push(format!("{at}/f"));
        }
        attacker.shell(&lines.join("; cd /; ")).await?;
        Ok(Self { attacker, files, directories })
    }

    async fn read(&self) -> Reached {
        let mut reached = Vec::new();
        for path in &self.files {
            if let Some(text) = self.contents(path).await
                && text.contains(&self.attacker.range.outside.secret)
            {
                reached.push(path.clone());
            }
        }
        reached
    }

    /// The first bytes of a file as text, if it can be read.
    async fn contents(&self, path: &str) -> Option<String> {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let mut file = client.read_file(id, path, Some(self.attacker.user), None).await.ok()?;
        let chunk = file.chunk().await.ok()??;
        Some(String::from_utf8_lossy(&chunk).into_owned())
    }

    async fn list(&self) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let mut reached = Vec::new();
        for path in &self.directories {
            let list = client.list_files(id, path, Some(self.attacker.user), 2).await;
            let entries = list.map(|list| list.entries).unwrap_or_default();
            let canary = entries.iter().find(|entry| entry.name.starts_with("canary-"));
            reached.extend(canary.map(|_| path.clone()));
        }
        for path in &self.files {
            // What it is, not where it points: a link that leads nowhere may be looked at.
            let stat = client.stat_file(id, path, Some(self.attacker.user)).await;
            let length = self.attacker.range.outside.secret.len() as u64;
            let seen = stat.is_ok_and(|it| it.symlink_target.is_none() && it.size == length);
            reached.extend(seen.then(|| format!("what is known of {path}")));
        }
        reached
    }

    async fn write(&self) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        for path in &self.files {
            let bytes = std::io::Cursor::new(b"overwritten".to_vec());
            let written = client.write_file(id, path, Some(self.attacker.user), None, bytes).await;
            drop(written); // what counts is what the host has afterwards
        }
        for path in &self.directories {
            let inner = format!("{path}/made");
            drop(client.make_directory(id, &inner, Some(self.attacker.user)).await);
        }
        self.attacker.range.outside.changed()
    }

    async fn move_out(&self) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let mut reached = Vec::new();
        // Files of these names were written inside by now; what is moved must not be the host's.
        for (number, path) in self.files.iter().enumerate() {
            let to = format!("/tmp/moved{number}");
            let user = Some(self.attacker.user.to_owned());
            let request = MoveFile { from: path.clone(), to: to.clone(), user };
            if client.move_file(id, &request).await.is_ok()
                && self
                    .contents(&to)
                    .await
                    .is_some_and(|it| it.contains(&self.attacker.range.outside.secret))
            {
                reached.push(path.clone());
            }
            let user = Some(self.attacker.user.to_owned());
            drop(client.move_file(id, &MoveFile { from: to, to: path.clone(), user }).await);
        }
        reached.extend(self.attacker.range.outside.changed());
        reached
    }

    async fn remove(&self) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        for path in self.files.iter().chain(&self.directories) {
            // The top of the sandbox and its own links may go: it is removed after this.
            drop(client.remove_file(id, path, Some(self.attacker.user)).await);
        }
        self.attacker.range.outside.changed()
    }

    /// What never ends, or waits for somebody else, must not hold the agent.
    async fn special_files(&self) -> Reached {
        let made = self.attacker.shell("rm -rf /tmp/pipe; mkfifo /tmp/pipe").await;
        let mut reached = Vec::new();
        reached.extend(made.err().map(|error| format!("no pipe was made: {error}")));
        for path in
            ["/tmp/pipe", "/dev/zero", "/dev/tty", "/proc/1/environ", "/proc/kmsg", "/proc/1/mem"]
        {
            match tokio::time::timeout(PATIENCE, self.contents(path)).await {
                Ok(None) => {}
                Ok(Some(_)) => reached.push(path.to_owned()),
                Err(_elapsed) => reached.push(format!("{path} holds the agent")),
            }
        }
        reached
    }

    /// Names that are no text, or lead elsewhere where they are taken for paths or for markup.
    async fn names(&self) -> Result<Reached, ClientError> {
        let lay = "mkdir -p /tmp/names && cd /tmp/names && printf x > \"$(printf 'a\\nb')\"; \
                   printf x > \"$(printf '\\377\\376')\"; printf x > '..\\..\\etc'; \
                   printf x > '\"},{\"name\":\"forged'; printf x > \"$(printf '\\033[2J')\"; ls | wc -l";
        self.attacker.shell(lay).await?;
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let list = client.list_files(id, "/tmp/names", Some(self.attacker.user), 1).await?;
        let mut reached = Vec::new();
        // A name that is no text has no place in JSON, and may be left out.
        if !(4..=5).contains(&list.entries.len()) {
            reached.push(format!("{} entries where there are 5", list.entries.len()));
        }
        for entry in list.entries {
            if !entry.path.starts_with("/tmp/names/") || entry.name == "forged" {
                reached.push(format!("an entry at {:?}", entry.path));
            }
        }
        Ok(reached)
    }
}
