//! A small internet, and a host that is connected to it: two network namespaces.
//!
//! For tests and measurements alone. Nothing of the machine's own network is touched or needed:
//! what is to see the internet is started by [`Internet::as_host`], whose thread is in the
//! namespace of the host, and so are all processes that it starts. Everything ends with the value.
//!
//! ```text
//!  sandboxes -- "host" 198.51.100.2 ---------- 198.51.100.1 "internet": every address of
//!               2001:db8:ff::2                 2001:db8:ff::1            203.0.113.0/24
//!                                                                        2001:db8:1::/48
//!                                               and 192.168.77.5, 10.99.0.5, 169.254.169.254,
//!                                                   fd00:77::5, fd00:ec2::254
//! ```
//!
//! | module | what |
//! |---|---|
//! | `internet` | [`Internet`]: its beginning and its end |
//! | `neighbour` | [`Neighbour`]: a namespace behind the host with plain NAT |
//! | `wires` | the namespaces, their addresses and routes |
//! | `zone` | [`Zone`]: names, and the server that answers for them |
//! | `authority` | certificates for whatever name a client asks for |
//! | `web` | HTTP/1.1, h2, WebSocket and event streams, with and without TLS |
//! | `streams` | bytes without meaning over TCP and UDP |
//! | `proxies` | SOCKS5 and HTTP CONNECT |
//! | `seen` | [`Seen`]: what has arrived |
//! | `pebble` | [`Pebble`]: an authority that speaks ACME, wherever it is started |
//! | `users` | [`let_out`]: what users without rights need |
//!
//! Every server listens on every address of its port; UDP on those of [`site`] 1 to 9 and of the
//! two name servers.

mod authority;
mod internet;
mod neighbour;
mod pebble;
mod proxies;
mod seen;
mod streams;
mod users;
mod web;
mod wires;
mod zone;

pub use internet::{Internet, InternetError};
pub use neighbour::Neighbour;
pub use pebble::{Pebble, PebbleOptions};
pub use seen::{Request, Seen};
pub use users::let_out;
pub use wires::{
    HOST, HOST_6, METADATA, METADATA_6, NAME_SERVER, OTHER_NAME_SERVER, PRIVATE, PRIVATE_6, ROUTER,
    ROUTER_6, site, site_6,
};
pub use zone::{Asked, Zone};

/// Ports of the servers.
pub mod port {
    /// Bytes come back as they are sent; TCP and UDP.
    pub const ECHO: u16 = 7;
    /// Questions about names; UDP and TCP.
    pub const NAMES: u16 = 53;
    /// HTTP.
    pub const HTTP: u16 = 80;
    /// HTTP over TLS; over UDP an echo in the place of QUIC.
    pub const HTTPS: u16 = 443;
    /// A port that carries questions about names in secret; [`WHO`] answers.
    pub const SECRET_NAMES: u16 = 853;
    /// A SOCKS5 proxy that wants [`super::PROXY_USER`] and [`super::PROXY_PASSWORD`].
    pub const SOCKS: u16 = 1080;
    /// An HTTP proxy for CONNECT that wants the same.
    pub const CONNECT: u16 = 3128;
    /// HTTP, on a port that means nothing.
    pub const OTHER_HTTP: u16 = 8080;
    /// Bytes without end for whoever connects.
    pub const SOURCE: u16 = 9001;
    /// Takes all bytes, and says how many there were when no more come.
    pub const SINK: u16 = 9002;
    /// Says who connects and to which address, and ends.
    pub const WHO: u16 = 9003;
}

/// The user that the proxies let in.
pub const PROXY_USER: &str = "warren";
/// That user's password.
pub const PROXY_PASSWORD: &str = "through-the-hill";
