//! What rules are made of: steps that match, change or decide.

use std::net::IpAddr;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It leaves this base chain and goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It goes through this chain and comes back if nothing there decides.
    Jump(&'a str),
    /// It goes through this chain and does not come back here.
    Goto(&'a str),
}

/// How to refuse a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// With a TCP reset; for TCP only.
    TcpReset,
    /// With ICMP or ICMPv6 "administratively prohibited".
    Prohibited,
}

/// One step of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Matches when a property of the packet is (or is not) this value.
    Meta {
        /// Which property.
        key: Meta,
        /// Whether the value must differ.
        not: bool,
        /// The value; of a name a prefix suffices.
        value: &'a [u8],
    },
    /// Matches when the interface's group, masked, is this one.
    Group {
        /// Of the interface that the packet came from or of the one it leaves by.
        of: Direction,
        /// Bits of the group that count.
        mask: u32,
        /// The group.
        group: u32,
    },
    /// Matches when bytes of the packet are this value.
    Payload {
        /// Which header.
        base: Header,
        /// From which byte of it.
        offset: u32,
        /// The value.
        value: &'a [u8],
    },
    /// Matches when the source address is (or is not) in this network. The packet must be of its
    /// family.
    Source {
        /// First address.
        network: IpAddr,
        /// How many bits its addresses share.
        prefix: u8,
        /// Whether it must be outside.
        not: bool,
    },
    /// Matches when the destination address is in this network. The packet must be of its family.
    Destination {
        /// First address.
        network: IpAddr,
        /// How many bits its addresses share.
        prefix: u8,
    },
    /// Matches when the destination address is in this set. The packet must be of its family.
    DestinationIn(Family, &'a str),
    /// Matches when a packet of IPv6 names addresses to travel by.
    RoutingHeader,
    /// Matches when the destination port of TCP or UDP is one from the first to the last.
    Ports((u16, u16)),
    /// Matches when the name of the interface that the packet came from is in this set.
    InputIn(&'a str),
    /// Goes to the chain that this map has for the interface that the packet came from.
    ChainOfInput(&'a str),
    /// Matches when these two numbers with the destination address are in this set. The packet must
    /// be of its family.
    Answered {
        /// Of the addresses in the set.
        family: Family,
        /// The set, of [`Keys::Answer`](super::Keys::Answer).
        set: &'a str,
        /// The numbers.
        numbers: [u32; 2],
    },
    /// Matches when the connection has this mark.
    Mark(u32),
    /// Gives the connection a mark.
    SetMark(u32),
    /// Matches when the connection's destination is not the one that its sender chose.
    Redirected,
    /// Gives the connection another destination.
    Redirect {
        /// The address, of the packet's family.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// Matches so often in a second, and so often at once.
    Limit {
        /// In a second.
        per_second: u32,
        /// At once.
        burst: u32,
    },
    /// Sends the packet to whoever listens to this group.
    Log {
        /// The group.
        group: u16,
        /// What is said about it; at most 127 bytes.
        prefix: &'a str,
    },
    /// Counts in this counter.
    Count(&'a str),
    /// Matches when the connection is in one of these states ([`ESTABLISHED`], [`RELATED`]).
    ConnectionState(u32),
    /// Matches when the packet's source is not reached by the interface it came from.
    SourceMissing,
    /// Ends the rule.
    Verdict(Verdict<'a>),
    /// Refuses the packet with an answer to its sender.
    Reject(Reject),
    /// Gives the connection the address of the interface it leaves by.
    Masquerade,
}

/// Kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: 4 bytes.
    Four,
    /// IPv6: 16 bytes.
    Six,
}

impl Family {
    /// Of this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Four } else { Self::Six }
    }

    /// The bytes of an address, and where in the header source and destination are.
    pub(super) const fn layout(self) -> (usize, u32, u32) {
        match self {
            Self::Four => (4, 12, 16),
            Self::Six => (16, 8, 24),
        }
    }

    /// The number of the type of addresses as keys of sets; only `nft list` looks at it.
    pub(super) const fn type_number(self) -> u32 {
        match self {
            Self::Four => 7,
            Self::Six => 8,
        }
    }
}

/// A connection that is being made.
pub const NEW: u32 = 8;
/// A connection that both sides have sent on.
pub const ESTABLISHED: u32 = 2;
/// One that belongs to another, such as an ICMP error.
pub const RELATED: u32 = 4;

/// Properties that [`Expression::Meta`] can look at (`NFT_META_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Name of the interface it came from; up to 16 bytes.
    InputName = 6,
    /// Name of the interface it leaves by; up to 16 bytes.
    OutputName = 7,
    /// 2 is IPv4, 10 is IPv6; 1 byte.
    Family = 15,
    /// TCP, UDP, ICMP; 1 byte.
    Protocol = 16,
}

/// Which of a packet's two interfaces [`Expression::Group`] looks at; numbers as in [`Meta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// The one it came from.
    Input = 21,
    /// The one it leaves by.
    Output = 22,
}

/// Headers that [`Expression::Payload`] can look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// IP.
    Network = 1,
    /// TCP, UDP.
    Transport = 2,
}
