//! Hostile archives, unpacked by the agent through the files API.

use std::{io::Cursor, time::Duration};

use warren_api::client::ClientError;

use super::{Attacker, Reached, Row};

const AREA: &str = "archives";

/// No archive of ours takes longer, unless it holds the agent.
const PATIENCE: Duration = Duration::from_secs(20);

/// How far up a path goes, to be certain to be at the top.
const UP: &str = "../../../../../../../../../../../..";

const BLOCK: usize = 512;

/// The kinds of entries that matter here, as the format has them.
const FILE: u8 = b'0';
const HARD_LINK: u8 = b'1';
const LINK: u8 = b'2';
const CHARACTER_DEVICE: u8 = b'3';
const BLOCK_DEVICE: u8 = b'4';
const DIRECTORY: u8 = b'5';

pub(super) async fn attack(attacker: &Attacker<'_>) -> Result<Vec<Row>, ClientError> {
    const ATTACKS: [&str; 5] = [
        "names_that_lead_out",
        "links_that_lead_out",
        "devices",
        "lies_about_sizes",
        "packing_the_host",
    ];
    let range = Archives { attacker };
    // That hostile ones are refused says nothing where all are.
    range.unpack("plain", ended(&[entry(FILE, "file", "", b"x")])).await;
    if range.there(&["/tmp/tar/plain/file"]).await.is_empty() {
        let why = "a plain archive was not unpacked";
        return Ok(ATTACKS.map(|it| Row::broken(attacker.profile, AREA, it, why)).to_vec());
    }
    Ok(vec![
        attacker.row(AREA, "names_that_lead_out", range.names().await),
        attacker.row(AREA, "links_that_lead_out", range.links().await),
        attacker.row(AREA, "devices", range.devices().await?),
        attacker.row(AREA, "lies_about_sizes", range.sizes().await),
        attacker.row(AREA, "packing_the_host", range.pack().await?),
    ])
}

struct Archives<'a> {
    attacker: &'a Attacker<'a>,
}

impl Archives<'_> {
    /// Unpacks below `/tmp/tar/<name>`; whether that works is not what counts.
    async fn unpack(&self, name: &str, archive: Vec<u8>) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let directory = format!("/tmp/tar/{name}");
        let user = Some(self.attacker.user);
        let unpacked = client.write_archive(id, &directory, user, Cursor::new(archive));
        match tokio::time::timeout(PATIENCE, unpacked).await {
            Ok(_) => Vec::new(),
            Err(_elapsed) => vec![format!("{name} holds the agent")],
        }
    }

    /// Those of the sandbox's own files that are there and must not be.
    async fn there(&self, paths: &[&str]) -> Reached {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let mut reached = Vec::new();
        for path in paths {
            let found = client.stat_file(id, path, Some(self.attacker.user)).await;
            reached.extend(found.is_ok().then(|| format!("{path}, beside where it was unpacked")));
        }
        reached
    }

    async fn names(&self) -> Reached {
        let mut names =
            ["../out1", "a/../../out1", "/tmp/tar/out1", "./.././out1", "a/b/../../../out1"]
                .map(str::to_owned)
                .to_vec();
        for canary in &self.attacker.range.outside.canaries {
            let path = canary.display();
            names.extend([format!("{path}"), format!("{UP}{path}"), format!("x/{UP}{path}")]);
            names.push(format!("/proc/1/root{path}"));
        }
        let mut reached = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let archive = ended(&[entry(FILE, name, "", b"overwritten")]);
            reached.extend(self.unpack(&format!("names{number}"), archive).await);
        }
        reached.extend(self.there(&["/tmp/tar/out1"]).await);
        reached.extend(self.attacker.range.outside.changed());
        reached
    }

    async fn links(&self) -> Reached {
        let mut reached = Vec::new();
        let mut targets =
            vec!["..".to_owned(), "/tmp/tar".to_owned(), "/proc/self/cwd/tmp/tar".to_owned()];
        let canaries = self.attacker.range.outside.canaries.iter();
        let directories = canaries.clone().filter_map(|it| it.parent());
        targets.extend(directories.map(|it| it.display().to_string()));
        for (number, target) in targets.iter().enumerate() {
            // First a link, then a file below it; and the same with a directory in its place.
            let through = ended(&[
                entry(LINK, "door", target, b""),
                entry(FILE, "door/out2", "", b"overwritten"),
                entry(DIRECTORY, "door/out2d", "", b""),
            ]);
            reached.extend(self.unpack(&format!("links{number}"), through).await);
        }
        let hard = ["/etc/passwd".to_owned(), format!("{UP}/etc/passwd")].into_iter();
        let hosts = canaries.map(|it| format!("/proc/1/root{}", it.display()));
        for (number, target) in hard.chain(hosts).enumerate() {
            let archive = ended(&[
                entry(HARD_LINK, "same", &target, b""),
                entry(FILE, "same", "", b"overwritten"),
            ]);
            reached.extend(self.unpack(&format!("hard{number}"), archive).await);
        }
        reached.extend(self.there(&["/tmp/tar/out2", "/tmp/tar/out2d"]).await);
        let passwords = self.attacker.shell("head -c 11 /etc/passwd").await;
        if passwords.is_ok_and(|it| it.stdout == "overwritten") {
            reached.push("/etc/passwd by a hard link".to_owned());
        }
        reached.extend(self.attacker.range.outside.changed());
        reached
    }

    async fn devices(&self) -> Result<Reached, ClientError> {
        let kinds = [("null", CHARACTER_DEVICE), ("disk", BLOCK_DEVICE)];
        let entries = kinds.map(|(name, kind)| entry(kind, name, "", b""));
        let mut reached = self.unpack("devices", ended(&entries)).await;
        let look = "for f in /tmp/tar/devices/*; do [ -b $f ] || [ -c $f ] && echo $f; done; true";
        let said = self.attacker.shell(look).await?.stdout;
        reached.extend(said.lines().map(str::to_owned));
        Ok(reached)
    }

    /// Headers whose numbers are not true; and the agent must live on.
    async fn sizes(&self) -> Reached {
        let sized = |digits: &[u8]| {
            let mut header = entry(FILE, "big", "", b"");
            header.splice(124..124 + digits.len(), digits.iter().copied());
            ended(&[checked(header)])
        };
        let mut wrong = entry(FILE, "wrong", "", b"x");
        wrong.splice(148..156, *b"7777777\0");
        let archives = [
            sized(b"77777777777\0"),
            sized(&[0xff; 12]),
            sized(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
            sized(b"-1         \0"),
            wrong,
            vec![0xff; BLOCK * 3],
            entry(FILE, "cut", "", &[b'x'; 700]).into_iter().take(BLOCK + 100).collect(),
        ];
        let mut reached = Vec::new();
        for (number, archive) in archives.into_iter().enumerate() {
            reached.extend(self.unpack(&format!("sizes{number}"), archive).await);
        }
        let alive = self.attacker.shell("echo alive").await;
        let alive = alive.is_ok_and(|it| it.stdout == "alive\n");
        reached.extend((!alive).then(|| "the agent does not answer any more".to_owned()));
        reached
    }

    /// Archives of directories that links and dots say are the host's.
    async fn pack(&self) -> Result<Reached, ClientError> {
        let mut reached = Vec::new();
        for canary in &self.attacker.range.outside.canaries {
            let Some(directory) = canary.parent().map(|it| it.display().to_string()) else {
                continue;
            };
            self.attacker.shell(&format!("ln -sfn {directory} /tmp/packed")).await?;
            for path in [
                directory.clone(),
                format!("/{UP}{directory}"),
                format!("/proc/1/root{directory}"),
                format!("/proc/self/root{directory}"),
                "/tmp/packed".to_owned(),
            ] {
                reached.extend(self.packs_secret(&path).await.then_some(path));
            }
        }
        Ok(reached)
    }

    async fn packs_secret(&self, path: &str) -> bool {
        let (client, id) = (self.attacker.range.client, &self.attacker.sandbox.id);
        let Ok(mut archive) = client.read_archive(id, path, Some(self.attacker.user)).await else {
            return false;
        };
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = archive.chunk().await {
            bytes.extend_from_slice(&chunk);
        }
        let secret = self.attacker.range.outside.secret.as_bytes();
        bytes.windows(secret.len()).any(|window| window == secret)
    }
}

/// Entries and the end of an archive.
fn ended(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = entries.concat();
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

/// One entry of the format `ustar`, of user and group 0, open to all.
fn entry(kind: u8, name: &str, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    // A name that is too long for its field stands in two.
    match name.len() {
        0..100 => put(0, name.as_bytes()),
        _ => {
            let cut =
                name.char_indices().filter(|(at, it)| *it == '/' && *at < 150).map(|(at, _)| at);
            let (prefix, rest) = name.split_at(cut.max().unwrap_or(0));
            put(345, prefix.as_bytes());
            put(0, rest.trim_start_matches('/').as_bytes());
        }
    }
    put(100, b"0004777\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(157, target.as_bytes().get(..100).unwrap_or(target.as_bytes()));
    put(257, b"ustar\x0000");
    put(329, b"0000001\0");
    put(337, b"0000001\0");
    let mut entry = checked(header);
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

/// The header with its sum.
fn checked(mut header: Vec<u8>) -> Vec<u8> {
    header.splice(148..156, *b"        ");
    let sum: u32 = header.iter().take(BLOCK).map(|byte| u32::from(*byte)).sum();
    header.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
    };

    use super::*;

    /// That hostile entries are refused means little if all of ours were.
    #[test]
    fn archives_of_ours_are_what_others_understand() {
        let base = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(60));
        let archive = ended(&[
            entry(FILE, "plain", "", b"content"),
            entry(LINK, "link", "plain", b""),
            entry(FILE, &long, "", b"deep"),
        ]);
        fs::write(base.path().join("a.tar"), archive).unwrap();
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let tar = Command::new("tar")
            .args(["-xf", "a.tar"])
            .current_dir(base.path())
            .stderr(Stdio::inherit())
            .status();
        assert!(tar.unwrap().success());
        assert_eq!(fs::read(base.path().join("link")).unwrap(), b"content");
        assert_eq!(fs::read(base.path().join(long)).unwrap(), b"deep");
    }
}
