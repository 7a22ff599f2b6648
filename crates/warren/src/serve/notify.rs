//! Tells a service manager how far the server is: `sd_notify(3)`, which is one datagram.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// The manager that started this server, if one did and wants to be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manager(Option<String>);

impl Manager {
    /// The one at `NOTIFY_SOCKET`: a path, or an abstract name behind an `@`.
    pub(crate) fn at(socket: Option<&str>) -> Self {
        Self(socket.map(ToOwned::to_owned))
    }

    /// The server answers.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The server ends; sandboxes go on.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending; sandboxes go on");
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = send(socket, state) {
            // It will give up on us in its own time, and that is then what to look for.
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sent = UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    if sent == state.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_at_a_path_is_told() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        Manager::at(path.to_str()).ready();
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1\nSTATUS=serving");
    }

    #[test]
    fn a_manager_at_an_abstract_name_is_told() {
        let name = format!("warren-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Manager::at(Some(&format!("@{name}"))).stopping();
        let mut text = [0; 64];
        assert!(manager.recv(&mut text).unwrap() > 0 && text.starts_with(b"STOPPING=1\n"));
    }

    #[test]
    fn a_manager_that_is_gone_is_no_failure() {
        assert!(send("/nonexistent/socket", "READY=1").is_err());
        Manager::at(Some("/nonexistent/socket")).ready();
        Manager::default().ready();
    }
}
