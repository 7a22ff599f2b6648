//! Where archives come from.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::{sync::mpsc, task::spawn_blocking};
use warren_core::images::{ImageError, ImportSource};

use super::{shelf::Shelf, unusable};
use crate::image::{ImageService, arrive::lost, program::Program, registry};

/// Where Docker listens.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// How long Docker may be silent: it packs the image before it sends.
const SILENCE: Duration = Duration::from_secs(300);
/// The longest head of Docker's answer, in bytes.
const MOST_HEAD: usize = 64 << 10;
/// Pieces that wait to be unpacked.
const WAITING: usize = 16;

impl ImageService {
    /// Has the files of a source at hand.
    pub(super) async fn open_source(&self, source: ImportSource) -> Result<Shelf, ImageError> {
        let (tmp, most) = (self.store.files.tmp(), self.rules.most_bytes);
        match source {
            ImportSource::Path(path) if path.is_dir() => Ok(Shelf::of_directory(path)),
            ImportSource::Path(path) => {
                let open = move || {
                    let shown = path.display().to_string();
                    let file = File::open(path)
                        .map_err(|error| unusable(&format!("cannot open {shown}: {error}")))?;
                    Shelf::of_archive(file, tmp, most)
                };
                spawn_blocking(open).await.map_err(lost)?
            }
            ImportSource::Stream(mut pieces) => {
                let (sender, receiver) = mpsc::channel(WAITING);
                let feed = async {
                    while let Some(piece) = pieces.next().await {
                        // Who unpacks has given up, and says why.
                        if sender.send(piece).await.is_err() {
                            break;
                        }
                    }
                    drop(sender);
                };
                let pieces = Pieces { pieces: receiver, piece: Bytes::new() };
                let unpack = spawn_blocking(move || Shelf::of_archive(pieces, tmp, most));
                let ((), shelf) = futures::join!(feed, unpack);
                shelf.map_err(lost)?
            }
            ImportSource::Docker(name) => {
                let socket = docker_socket(self.settings.docker_host.as_deref())?;
                spawn_blocking(move || Shelf::of_archive(docker(&socket, &name)?, tmp, most))
                    .await
                    .map_err(lost)?
            }
            ImportSource::Containerd(name) => {
                let program = Program::find("ctr", &self.settings.environment);
                let program = program.ok_or_else(|| {
                    unusable("there is no program `ctr` here, by which containerd is asked")
                })?;
                spawn_blocking(move || containerd(&program, &name, tmp, most))
                    .await
                    .map_err(lost)?
            }
        }
    }
}

/// A body that comes in pieces, for a thread that may block.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The socket that a value of `DOCKER_HOST` names.
fn docker_socket(host: Option<&str>) -> Result<PathBuf, ImageError> {
    let Some(host) = host.filter(|it| !it.is_empty()) else {
        return Ok(PathBuf::from(DOCKER_SOCKET));
    };
    let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| {
        unusable(&format!("DOCKER_HOST is `{host}`, expected unix:// and an absolute path"))
    })
}

/// Asks Docker for an image as an archive.
///
/// # Source
///
/// Docker Engine API, `GET /images/{name}/get`. HTTP/1.0, so that the body ends with the connection.
fn docker(socket: &Path, name: &str) -> Result<impl Read + use<>, ImageError> {
    let failed =
        |error: io::Error| unusable(&format!("cannot ask Docker at {}: {error}", socket.display()));
    check(name)?;
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    let request = format!("GET /images/{name}/get HTTP/1.0\r\nHost: docker\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(failed)?;
        head.extend_from_slice(&byte);
        if head.len() > MOST_HEAD {
            return Err(unusable("Docker's answer has no end of its head"));
        }
    }
    let status = head.split(|it| *it == b' ').nth(1).unwrap_or_default();
    if status != b"200" {
        let mut reason = String::new();
        stream.take(MOST_HEAD as u64).read_to_string(&mut reason).ok();
        return Err(unusable(&format!("Docker answers {}", registry::plain(&reason))));
    }
    Ok(stream)
}

/// Asks containerd for an image as an archive.
fn containerd(program: &Program, name: &str, tmp: PathBuf, most: u64) -> Result<Shelf, ImageError> {
    check(name)?;
    let mut running = program
        .start(&["images", "export", "-", name], b"")
        .map_err(ImageError::host("start ctr"))?;
    let shelf = Shelf::of_archive(&mut running, tmp, most);
    match running.finish() {
        Ok(()) => shelf,
        // Why there is no archive is what went wrong.
        Err(error) => Err(unusable(&format!("ctr could not export {name}: {error}"))),
    }
}

/// A name that goes into a request or onto a command line.
fn check(name: &str) -> Result<(), ImageError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    match name.bytes().all(good) && name.starts_with(|it: char| it.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(unusable(&format!("`{name}` is no name of an image"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn docker_is_where_its_variable_says() {
        let socket = |host| docker_socket(host).map(|it| it.display().to_string());
        assert_eq!(socket(None).unwrap(), DOCKER_SOCKET);
        assert_eq!(socket(Some("")).unwrap(), DOCKER_SOCKET);
        assert_eq!(socket(Some("unix:///run/other.sock")).unwrap(), "/run/other.sock");
        for wrong in ["tcp://10.0.0.1:2375", "unix://relative", "/run/docker.sock"] {
            let error = socket(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("expected unix://"), "{error}");
        }
    }

    #[test]
    fn docker_is_asked_for_an_archive() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody", "HTTP/1.0 404 No\r\n\r\nnone"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap();
                assert!(request[..count].starts_with(b"GET /images/a/b:c/get HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut body = String::new();
        docker(&socket, "a/b:c").unwrap().read_to_string(&mut body).unwrap();
        assert_eq!(body, "body");
        let error = docker(&socket, "a/b:c").map(drop).unwrap_err().to_string();
        assert!(error.contains("Docker answers none"), "{error}");
        server.join().unwrap();
        for wrong in ["", "-x", "a b", "a\r\nb", "../x?y"] {
            assert!(docker(&socket, wrong).is_err(), "{wrong}");
        }
    }
}
