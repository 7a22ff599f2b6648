//! Which addresses sandboxes have.
//!
//! All instances of a host share one subnet, and every number follows from it:
//!
//! | addresses (from the subnet's first) | for                                      |
//! |-------------------------------------|------------------------------------------|
//! | 0                                   | nobody                                   |
//! | 1 to 254                            | gateways, one per instance: 1 + index    |
//! | 255                                 | nobody                                   |
//! | 256 to last but one                 | sandboxes: 256 + slot                    |
//! | last                                | nobody                                   |

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive, str::FromStr};

/// How many instances a host can have.
pub const GATEWAYS: u32 = 254;
/// Place of the first sandbox.
const FIRST_GUEST: u32 = 256;
/// The longest prefix that has room for sandboxes: 510 addresses, 254 of them sandboxes.
const LONGEST_PREFIX: u8 = 23;

/// Tried in this order; all private. The first is out of the way of the ranges that Docker
/// (172.17 to 172.31, 192.168), libvirt (192.168.122), Kubernetes (10.42, 10.43, 10.96, 10.244),
/// LXD (10.x random) and home routers take by default.
const CANDIDATES: [Subnet; 8] = [
    Subnet::literal(10, 213, 16),
    Subnet::literal(10, 214, 16),
    Subnet::literal(10, 197, 16),
    Subnet::literal(10, 181, 16),
    Subnet::literal(10, 143, 16),
    Subnet::literal(172, 29, 16),
    Subnet::literal(172, 22, 16),
    Subnet::literal(100, 93, 16),
];

/// A range of IPv4 addresses: those that share their first `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why addresses cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not written as a subnet.
    #[error("`{text}` is not a subnet; expected an address and a length, such as 10.213.0.0/16")]
    Syntax {
        /// What was written.
        text: String,
    },
    /// The address has bits beyond the prefix.
    #[error("{network}/{prefix} is not a subnet: its address has bits after the first {prefix}")]
    Bits {
        /// The address given.
        network: Ipv4Addr,
        /// The length given.
        prefix: u8,
    },
    /// There is no room for sandboxes.
    #[error("{0} is too small for sandboxes; expected a length of at most {LONGEST_PREFIX}")]
    Small(Subnet),
    /// There is no such slot or instance.
    #[error("{subnet} has no place {number}")]
    Slot {
        /// The subnet.
        subnet: Subnet,
        /// The slot or index asked for.
        number: u32,
    },
    /// Everything that could be used overlaps what the host has.
    #[error("every subnet that could be used overlaps an address or a route of this host")]
    Taken,
}

impl Subnet {
    /// A subnet.
    ///
    /// # Errors
    ///
    /// [`SubnetError::Bits`]; a `prefix` above 32 is one too.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Self, SubnetError> {
        let subnet = Self { network, prefix };
        if prefix > 32 || u32::from(network) & !subnet.bits() != 0 {
            return Err(SubnetError::Bits { network, prefix });
        }
        Ok(subnet)
    }

    const fn literal(first: u8, second: u8, prefix: u8) -> Self {
        Self { network: Ipv4Addr::new(first, second, 0, 0), prefix }
    }

    /// The first address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// How many bits its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// From the first address to the last.
    pub fn range(self) -> RangeInclusive<Ipv4Addr> {
        self.network..=(u32::from(self.network) | !self.bits()).into()
    }

    /// Whether `address` is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.bits() == u32::from(self.network)
    }

    /// The address of the host for the sandboxes of the instance with this index.
    ///
    /// # Errors
    ///
    /// [`SubnetError::Small`], and [`SubnetError::Slot`] from an index of 254 on.
    pub fn gateway(self, index: u8) -> Result<Ipv4Addr, SubnetError> {
        self.check_size()?;
        if u32::from(index) >= GATEWAYS {
            return Err(SubnetError::Slot { subnet: self, number: u32::from(index) });
        }
        Ok((u32::from(self.network) + 1 + u32::from(index)).into())
    }

    /// The address of the sandbox in this slot.
    ///
    /// # Errors
    ///
    /// [`SubnetError::Small`], [`SubnetError::Slot`].
    pub fn guest(self, slot: u32) -> Result<Ipv4Addr, SubnetError> {
        self.check_size()?;
        let address = u32::from(self.network)
            .checked_add(FIRST_GUEST)
            .and_then(|first| first.checked_add(slot))
            .filter(|address| *address < u32::from(*self.range().end()))
            .ok_or(SubnetError::Slot { subnet: self, number: slot })?;
        Ok(address.into())
    }

    /// The slot of the sandbox with this address.
    pub fn slot(self, address: Ipv4Addr) -> Option<u32> {
        let slot = u32::from(address).checked_sub(u32::from(self.network) + FIRST_GUEST)?;
        self.guest(slot).ok().map(|_| slot)
    }

    fn overlaps(self, network: Ipv4Addr, prefix: u8) -> bool {
        let shorter = Self { network, prefix: self.prefix.min(prefix) };
        (u32::from(network) ^ u32::from(self.network)) & shorter.bits() == 0
    }

    fn check_size(self) -> Result<(), SubnetError> {
        if self.prefix > LONGEST_PREFIX { Err(SubnetError::Small(self)) } else { Ok(()) }
    }

    fn bits(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parsed = text.split_once('/').and_then(|(network, prefix)| {
            Some((network.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))
        });
        let (network, prefix) =
            parsed.ok_or_else(|| SubnetError::Syntax { text: text.to_owned() })?;
        Self::new(network, prefix)
    }
}

/// The candidate whose gateway of this instance, or else of any, is there already; else the first
/// that overlaps none of `taken`, the addresses and routes of the host that are not ours.
pub(super) fn choose(
    index: u8,
    gateways: &[Ipv4Addr],
    taken: &[(Ipv4Addr, u8)],
) -> Result<Subnet, SubnetError> {
    let own = |subnet: &Subnet| subnet.gateway(index).is_ok_and(|own| gateways.contains(&own));
    let shared = |subnet: &Subnet| gateways.iter().any(|gateway| subnet.contains(*gateway));
    let free =
        |subnet: &Subnet| !taken.iter().any(|(network, prefix)| subnet.overlaps(*network, *prefix));
    let candidates = || CANDIDATES.into_iter();
    candidates()
        .find(own)
        .or_else(|| candidates().find(|subnet| shared(subnet) && free(subnet)))
        .or_else(|| candidates().find(free))
        .ok_or(SubnetError::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn places_follow_from_the_slot_and_back() {
        let subnet = subnet("10.213.0.0/16");
        assert_eq!(subnet.gateway(0).unwrap(), Ipv4Addr::new(10, 213, 0, 1));
        assert_eq!(subnet.gateway(253).unwrap(), Ipv4Addr::new(10, 213, 0, 254));
        assert!(subnet.gateway(254).is_err());
        assert_eq!(subnet.guest(0).unwrap(), Ipv4Addr::new(10, 213, 1, 0));
        assert_eq!(subnet.guest(65_278).unwrap(), Ipv4Addr::new(10, 213, 255, 254));
        assert!(subnet.guest(65_279).is_err(), "the last address is nobody's");
        assert!(subnet.guest(u32::MAX).is_err());
        for slot in [0, 1, 255, 16_000, 65_278] {
            assert_eq!(subnet.slot(subnet.guest(slot).unwrap()), Some(slot));
        }
        assert_eq!(subnet.slot(subnet.gateway(3).unwrap()), None);
        assert_eq!(subnet.slot(Ipv4Addr::new(10, 214, 1, 0)), None);
    }

    #[test]
    fn subnets_are_read_strictly() {
        assert_eq!(subnet("10.0.0.0/8").to_string(), "10.0.0.0/8");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.1/8", "x/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        assert!(subnet("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert_eq!(subnet("10.1.0.0/24").guest(0), Err(SubnetError::Small(subnet("10.1.0.0/24"))));
        assert_eq!(subnet("10.1.0.0/23").guest(253), Ok(Ipv4Addr::new(10, 1, 1, 253)));
    }

    #[test]
    fn the_first_subnet_that_the_host_does_not_use_is_chosen() {
        let chosen = |taken: &[(Ipv4Addr, u8)]| choose(0, &[], taken).map(|it| it.to_string());
        assert_eq!(chosen(&[]).unwrap(), "10.213.0.0/16");
        let host = (Ipv4Addr::new(10, 213, 200, 9), 24);
        assert_eq!(chosen(&[host]).unwrap(), "10.214.0.0/16");
        let vpn = (Ipv4Addr::new(10, 0, 0, 0), 8);
        assert_eq!(chosen(&[vpn]).unwrap(), "172.29.0.0/16");
        let all = (Ipv4Addr::new(0, 0, 0, 0), 0);
        assert_eq!(chosen(&[all]), Err(SubnetError::Taken));
    }

    #[test]
    fn a_restart_keeps_the_subnet_whatever_the_host_has_since() {
        let own = Ipv4Addr::new(10, 214, 0, 8);
        let vpn = (Ipv4Addr::new(10, 0, 0, 0), 8);
        assert_eq!(choose(7, &[own], &[vpn]).unwrap(), subnet("10.214.0.0/16"));
        assert_eq!(choose(1, &[own], &[]).unwrap(), subnet("10.214.0.0/16"), "shared");
        assert_eq!(choose(1, &[own], &[vpn]).unwrap(), subnet("172.29.0.0/16"));
    }
}
