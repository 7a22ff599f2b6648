//! The program `docker-registry`, in a directory of its own.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::image::{Blob, Image};

const PROGRAM: &str = "/usr/bin/docker-registry";
/// The file with users and hashes of their passwords, in the registry's directory.
const USERS: &str = "users";

/// A running registry. Dropping it ends it and removes what it has.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    directory: TempDir,
    address: String,
    users: bool,
}

/// A registry that does not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegistryError {
    /// The program is not installed.
    NotInstalled,
    /// It is there, and something failed on the way.
    Io(io::Error),
}

impl std::error::Error for RegistryError {}

impl std::fmt::Display for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotInstalled => write!(f, "docker-registry is not installed"),
            Self::Io(error) => write!(f, "run docker-registry: {error}"),
        }
    }
}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Registry {
    /// Starts an empty registry, on a port that was free, and waits until it listens.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotInstalled`] where there is none, which is no failure of a test.
    pub fn start() -> Result<Self, RegistryError> {
        Self::start_for(None)
    }

    /// The same, for somebody with a password alone: a user's name and a bcrypt hash.
    ///
    /// # Errors
    ///
    /// As [`Registry::start`].
    pub fn start_with_user(user: &str, hash: &str) -> Result<Self, RegistryError> {
        Self::start_for(Some((user, hash)))
    }

    fn start_for(user: Option<(&str, &str)>) -> Result<Self, RegistryError> {
        if !Path::new(PROGRAM).exists() {
            return Err(RegistryError::NotInstalled);
        }
        let directory = tempfile::Builder::new().prefix("warren-registry-").tempdir()?;
        if let Some((user, hash)) = user {
            fs::write(directory.path().join(USERS), format!("{user}:{hash}\n"))?;
        }
        let (child, address) = run(directory.path(), 0, user.is_some())?;
        Ok(Self { child, directory, address, users: user.is_some() })
    }

    /// Host and port: what a reference to an image in it begins with.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the program as if by accident. What it has stays.
    pub fn kill(&mut self) {
        // It may have ended by itself; both ways it is gone then.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it again after [`Registry::kill`], at the same address.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn restart(&mut self) -> Result<(), RegistryError> {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok());
        (self.child, self.address) = run(self.directory.path(), port.unwrap_or(0), self.users)?;
        Ok(())
    }

    /// Puts an image into a repository, under a tag; one of that name is replaced.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) -> io::Result<()> {
        let place = self.storage().join("repositories").join(repository);
        let layers = image.layers.iter().map(|layer| &layer.blob).chain([&image.config]);
        for blob in layers {
            self.put_blob(blob)?;
            link(&place.join("_layers/sha256").join(hex(&blob.digest)), &blob.digest)?;
        }
        let manifest = &image.manifest;
        self.put_blob(manifest)?;
        let manifests = place.join("_manifests");
        let revisions = manifests.join("revisions/sha256");
        link(&revisions.join(hex(&manifest.digest)), &manifest.digest)?;
        let tag = manifests.join("tags").join(tag);
        link(&tag.join("index/sha256").join(hex(&manifest.digest)), &manifest.digest)?;
        link(&tag.join("current"), &manifest.digest)
    }

    /// The file in which a blob is, for a test that damages it.
    #[must_use]
    pub fn file_of(&self, digest: &str) -> PathBuf {
        let hex = hex(digest);
        let prefix = hex.get(..2).unwrap_or_default();
        self.storage().join("blobs/sha256").join(prefix).join(hex).join("data")
    }

    fn put_blob(&self, blob: &Blob) -> io::Result<()> {
        let file = self.file_of(&blob.digest);
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        fs::write(file, &blob.bytes)
    }

    fn storage(&self) -> PathBuf {
        self.directory.path().join("docker/registry/v2")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the program and reads from its log where it listens.
fn run(directory: &Path, port: u16, users: bool) -> Result<(Child, String), RegistryError> {
    let config = directory.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        directory.display()
    );
    let file = directory.join(USERS);
    let auth = format!("auth: {{htpasswd: {{realm: warren, path: {}}}}}\n", file.display());
    fs::write(&config, if users { text + &auth } else { text })?;
    #[expect(clippy::disallowed_methods, reason = "the registry is another's program")]
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg(&config).env_clear().current_dir(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or_else(|| io::Error::other("no log"))?);
    let mut said = String::new();
    let address = loop {
        let start = said.len();
        if log.read_line(&mut said)? == 0 {
            child.wait()?;
            return Err(io::Error::other(format!("it ended: {said}")).into());
        }
        let line = said.get(start..).unwrap_or_default();
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.trim_end_matches(|it: char| !it.is_ascii_digit()).to_owned();
        }
    };
    let address = address.split(['"', ' ']).next().unwrap_or_default().to_owned();
    // What it writes later is read and forgotten, so that it never waits for a reader.
    std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
    Ok((child, address))
}

fn link(directory: &Path, digest: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("link"), digest)
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use serde_json::json;

    use super::*;
    use crate::{Layer, Proxy, Tree};

    fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             accept: application/vnd.oci.image.manifest.v1+json\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer)); // a lost connection is what a test wants to see
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn filled() -> Option<(Registry, Image)> {
        let registry = match Registry::start() {
            Err(RegistryError::NotInstalled) => {
                println!("SKIPPED: docker-registry is not installed");
                return None;
            }
            other => other.unwrap(),
        };
        let tar = Tree::default().file("hello", &[b'x'; 100_000]).into_tar();
        let image = Image::new(vec![Layer::plain(tar)], &json!({}));
        registry.put("team/tool", "1", &image).unwrap();
        Some((registry, image))
    }

    #[test]
    fn what_is_put_in_is_served_also_after_a_restart() {
        let Some((mut registry, image)) = filled() else { return };
        let manifest = |registry: &Registry| get(registry.address(), "/v2/team/tool/manifests/1");
        assert!(manifest(&registry).contains(&image.config.digest), "{}", manifest(&registry));
        let layer = &image.layers[0].blob.digest;
        let answer = get(registry.address(), &format!("/v2/team/tool/blobs/{layer}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        registry.kill();
        assert!(TcpStream::connect(registry.address()).is_err());
        registry.restart().unwrap();
        assert!(manifest(&registry).contains(&image.config.digest));
    }

    #[test]
    fn a_proxy_loses_the_connection_in_the_middle_and_comes_back() {
        let Some((registry, image)) = filled() else { return };
        let proxy = Proxy::start(registry.address()).unwrap();
        let path = format!("/v2/team/tool/blobs/{}", image.layers[0].blob.digest);
        assert!(get(proxy.address(), &path).len() > 100_000);
        proxy.cut_after(50_000);
        let some = get(proxy.address(), &path).len();
        assert!(some > 10_000 && some <= 50_000, "{some}");
        proxy.wait_until_cut();
        assert_eq!(get(proxy.address(), &path), "");
        proxy.heal();
        assert!(get(proxy.address(), &path).len() > 100_000);
    }
}
