//! The setting about name servers.

use std::net::{IpAddr, SocketAddr};

use super::value::Value;

/// Where name servers listen.
const PORT: u16 = 53;

/// The name servers that are asked; those of the host where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameServers(pub(crate) Vec<SocketAddr>);

impl Value for NameServers {
    fn kind() -> String {
        format!(
            "addresses of name servers such as `192.0.2.53` or `[2001:db8::53]:5353`, separated \
             by commas; port {PORT} where none is named"
        )
    }

    fn read(text: &str) -> Option<Self> {
        let server = |text: &str| {
            let text = text.trim();
            let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
            let with_port = || text.parse().ok();
            let server = bare.parse::<IpAddr>().map(|it| (it, PORT).into()).ok();
            server.or_else(with_port).filter(|it: &SocketAddr| !it.ip().is_unspecified())
        };
        text.split(',').map(server).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out() {
        let read = |text| NameServers::read(text).map(|it| format!("{:?}", it.0));
        let both = "192.0.2.53, [2001:db8::53]:5353,2001:db8::53,[2001:db8::53]";
        let expected = "[192.0.2.53:53, [2001:db8::53]:5353, [2001:db8::53]:53, [2001:db8::53]:53]";
        assert_eq!(read(both).as_deref(), Some(expected));
        for wrong in ["", "dns.example", "192.0.2.53:", "192.0.2.53,", "0.0.0.0", "192.0.2.0/24"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
