//! Which name servers a host asks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// The port of name servers.
pub const PORT: u16 = 53;

/// How many servers of a `resolv.conf` are looked at, as in the C library.
const MOST: usize = 3;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// These servers, in order.
    Fixed(Vec<SocketAddr>),
    /// Those that a file such as `/etc/resolv.conf` names when it is looked at.
    File(PathBuf),
}

impl Servers {
    /// The servers, in order. A file that cannot be read, or names none, means the loopback, as
    /// to the C library.
    ///
    /// # Source
    ///
    /// resolv.conf(5).
    pub async fn list(&self) -> Vec<SocketAddr> {
        let path = match self {
            Self::Fixed(servers) => return servers.clone(),
            Self::File(path) => path.clone(),
        };
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        parse(&text.ok().and_then(Result::ok).unwrap_or_default())
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        parse_address(address)
    });
    let mut servers: Vec<SocketAddr> = servers.take(MOST).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface_index(scope))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

fn interface_index(name: &str) -> Option<u32> {
    let (family, kind) = (AddressFamily::INET6, SocketType::DGRAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::name_to_index(&socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_c_library_does() {
        let parsed =
            |text: &str| parse(text).iter().map(ToString::to_string).collect::<Vec<String>>();
        let text = "# nameserver 1.1.1.1\nsearch corp.example\nnameserver 127.0.0.53\n\
                    options edns0\nnameserver\tfd00::1  # here\nnameserver no\nnameserver fe80::1%3";
        assert_eq!(parsed(text), ["127.0.0.53:53", "[fd00::1]:53", "[fe80::1%3]:53"]);
        assert_eq!(parsed("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(parsed(""), ["127.0.0.1:53"]);
        let many = "nameserver 10.0.0.1\n".repeat(9);
        assert_eq!(parsed(&many).len(), MOST);
    }

    #[tokio::test]
    async fn a_file_is_read_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let servers = Servers::File(folder.path().join("resolv.conf"));
        assert_eq!(servers.list().await, ["127.0.0.1:53".parse().unwrap()]);
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(servers.list().await, ["192.0.2.1:53".parse().unwrap()]);
    }
}
