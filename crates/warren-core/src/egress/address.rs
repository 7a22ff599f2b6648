//! Networks of both families, and those that no sandbox reaches.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Not written as one.
    #[error(
        "`{text}` is no address and no network; expected such as 192.0.2.0/24 or 2001:db8::/32"
    )]
    Syntax {
        /// What was written.
        text: String,
    },
    /// The address has bits beyond the prefix.
    #[error("`{text}` has bits after the first {prefix}; did you mean {meant}/{prefix}?")]
    Bits {
        /// What was written.
        text: String,
        /// The length.
        prefix: u8,
        /// The first address of the network that the address is in.
        meant: IpAddr,
    },
}

impl Network {
    /// One address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self { address, prefix: width(address) }
    }

    const fn four(a: u8, b: u8, c: u8, prefix: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), prefix }
    }

    const fn six(first: u16, second: u16, prefix: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix }
    }

    /// The first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses share.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address.
    #[must_use]
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first) | !(mask(self) >> 96) as u32).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first) | !mask(self)).into()),
        }
    }

    /// Whether `address` is in it. One of the other family never is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                (bits(address) ^ bits(self.address)) & mask(self) == 0
            }
            _ => false,
        }
    }
}

/// How many bits an address has.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits of an address, the first the highest.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => address.into(),
    }
}

/// The bits that count.
fn mask(network: Network) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(network.prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix == width(self.address) {
            true => write!(out, "{}", self.address),
            false => write!(out, "{}/{}", self.address, self.prefix),
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let syntax = || InvalidNetwork::Syntax { text: text.to_owned() };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                // `+8` and `08` are read as numbers elsewhere.
                let plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
                let plain = plain && (prefix.len() == 1 || !prefix.starts_with('0'));
                let prefix = plain.then(|| prefix.parse::<u8>().ok()).flatten();
                (address, Some(prefix.ok_or_else(syntax)?))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_not_one| syntax())?;
        // Written as IPv6 and meant as IPv4: the kernel sends IPv4 packets to it.
        let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
        let network = Self { address, prefix: prefix.unwrap_or_else(|| width(address)) };
        if mapped || network.prefix > width(address) {
            return Err(syntax());
        }
        if bits(address) & !mask(network) != 0 {
            let meant = match bits(address) & mask(network) {
                meant if address.is_ipv4() => IpAddr::V4(((meant >> 96) as u32).into()),
                meant => IpAddr::V6(meant.into()),
            };
            let prefix = network.prefix;
            return Err(InvalidNetwork::Bits { text: text.to_owned(), prefix, meant });
        }
        Ok(network)
    }
}

/// The networks of IPv4 that no sandbox reaches, and what they are.
///
/// # Source
///
/// The IANA registry of special-purpose IPv4 addresses, and RFC 5771 for multicast.
const RESERVED_4: [(Network, &str); 10] = [
    (Network::four(0, 0, 0, 8), "addresses of this network"),
    (Network::four(10, 0, 0, 8), "private addresses"),
    (Network::four(100, 64, 0, 10), "addresses of providers' own networks"),
    (Network::four(127, 0, 0, 8), "loopback addresses"),
    (Network::four(169, 254, 0, 16), "link-local and metadata addresses"),
    (Network::four(172, 16, 0, 12), "private addresses"),
    (Network::four(192, 0, 0, 24), "addresses of protocols"),
    (Network::four(192, 168, 0, 16), "private addresses"),
    (Network::four(198, 18, 0, 15), "addresses for measurements"),
    (Network::four(224, 0, 0, 3), "multicast and reserved addresses"),
];

/// What of IPv6 is for the public Internet, and what of that leads to IPv4 by other ways.
///
/// # Source
///
/// RFC 4291 for global unicast addresses; RFC 4380 (Teredo) and RFC 3056 (6to4) for the rest.
const PUBLIC_6: Network = Network::six(0x2000, 0, 3);
const TUNNELS_6: [Network; 2] = [Network::six(0x2001, 0, 32), Network::six(0x2002, 0, 16)];

/// What the network of an address is that no sandbox reaches unless the operator lets all of them;
/// none for an address of the public Internet.
#[must_use]
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(_) => {
            RESERVED_4.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what)
        }
        IpAddr::V6(_) if !PUBLIC_6.contains(address) => {
            Some("addresses that are not of the public Internet")
        }
        IpAddr::V6(_) => TUNNELS_6
            .iter()
            .any(|network| network.contains(address))
            .then_some("addresses of tunnels to IPv4"),
    }
}
