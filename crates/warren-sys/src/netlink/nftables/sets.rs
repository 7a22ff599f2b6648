//! Sets and maps whose elements come and go, and counters that outlive the rules that count.

use std::{net::IpAddr, time::Duration};

use super::{Batch, Family, attribute, kind, message};
use crate::netlink::{
    NetlinkError, Socket,
    message::{Attributes, Request, flags},
};

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Keys alone.
    Plain,
    /// Keys that go by themselves.
    Timed,
    /// Keys with a chain to go to.
    Chains,
}

/// What the keys of a set are. The numbers of types are only for `nft list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The name of an interface: 16 bytes, padded with zeros.
    Interface,
    /// Two numbers of the host's byte order and an address: 12 or 24 bytes.
    Answer(Family),
    /// An address of IPv4: 4 bytes.
    Address,
}

/// Addresses of one family, from the first to the last.
pub type Range = (IpAddr, IpAddr);

/// How many ranges are in one message, whose length has a limit.
const RANGES_AT_ONCE: usize = 256;

impl Keys {
    const fn type_number(self) -> u32 {
        const INTERFACE_NAME: u32 = 41;
        const MARK: u32 = 19;
        match self {
            Self::Interface => INTERFACE_NAME,
            Self::Answer(family) => MARK << 12 | MARK << 6 | family.type_number(),
            Self::Address => Family::Four.type_number(),
        }
    }

    const fn bytes(self) -> u32 {
        match self {
            Self::Interface => 16,
            Self::Answer(Family::Four) => 12,
            Self::Answer(Family::Six) => 24,
            Self::Address => 4,
        }
    }
}

/// The name of an interface as a key.
pub fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (place, byte) in key.iter_mut().zip(name.bytes().take(15)) {
        *place = byte;
    }
    key
}

impl Batch<'_> {
    /// Makes a set of ranges of addresses, which must be in ascending order and not overlap.
    pub fn create_set(&mut self, name: &str, family: Family, ranges: &[Range]) -> &mut Self {
        const INTERVAL: u32 = 4;
        self.sets += 1;
        let (bytes, ..) = family.layout();
        let mut request = message(kind::NEW_SET, flags::CREATE);
        request
            .text(attribute::SET_TABLE, self.table)
            .text(attribute::SET_NAME, name)
            .be32(attribute::SET_FLAGS, INTERVAL)
            .be32(attribute::SET_KEY_TYPE, family.type_number())
            .be32(attribute::SET_KEY_LENGTH, u32::try_from(bytes).unwrap_or(u32::MAX))
            .be32(attribute::SET_ID, self.sets);
        self.push(request);
        self.add_ranges(name, ranges)
    }

    /// Replaces all that is in a set by ranges, which must be as for [`Batch::create_set`].
    pub fn set_ranges(&mut self, name: &str, ranges: &[Range]) -> &mut Self {
        let mut request = message(kind::DELETE_ELEMENTS, 0);
        request.text(attribute::ELEMENTS_TABLE, self.table).text(attribute::ELEMENTS_SET, name);
        self.push(request);
        self.add_ranges(name, ranges)
    }

    fn add_ranges(&mut self, set: &str, ranges: &[Range]) -> &mut Self {
        for some in ranges.chunks(RANGES_AT_ONCE) {
            let mut request = message(kind::NEW_ELEMENTS, flags::CREATE);
            request
                .text(attribute::ELEMENTS_TABLE, self.table)
                .text(attribute::ELEMENTS_SET, set)
                .nested(attribute::ELEMENTS_LIST, |list| {
                    for (first, last) in some {
                        bound(list, *first, false);
                        // The element after the last is marked as an end; after the last of all
                        // addresses there is none, and the range is open.
                        if let Some(end) = after(*last) {
                            bound(list, end, true);
                        }
                    }
                });
            self.push(request);
        }
        self
    }

    /// Makes a set whose elements are added one by one.
    pub fn create_keyed_set(&mut self, name: &str, keys: Keys, elements: Elements) -> &mut Self {
        const MAP: u32 = 0x8;
        const TIMEOUT: u32 = 0x10;
        const VERDICT: u32 = 0xffff_ff00;
        self.sets += 1;
        let set_flags = match elements {
            Elements::Plain => 0,
            Elements::Timed => TIMEOUT,
            Elements::Chains => MAP,
        };
        let mut request = message(kind::NEW_SET, flags::CREATE);
        request
            .text(attribute::SET_TABLE, self.table)
            .text(attribute::SET_NAME, name)
            .be32(attribute::SET_FLAGS, set_flags)
            .be32(attribute::SET_KEY_TYPE, keys.type_number())
            .be32(attribute::SET_KEY_LENGTH, keys.bytes());
        if elements == Elements::Chains {
            request.be32(attribute::SET_DATA_TYPE, VERDICT).be32(attribute::SET_DATA_LENGTH, 0);
        }
        request.be32(attribute::SET_ID, self.sets);
        self.push(request)
    }

    /// Adds a key; one that is there stays.
    pub fn add_key(&mut self, set: &str, key: &[u8]) -> &mut Self {
        self.add_one(set, key, |_plain| {})
    }

    /// Adds a key that goes by itself; one that is there stays for as long as it was to.
    pub fn add_timed(&mut self, set: &str, key: &[u8], life: Duration) -> &mut Self {
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        self.add_one(set, key, |element| {
            element.bytes(attribute::ELEMENT_TIMEOUT, &millis.to_be_bytes());
        })
    }

    /// Adds a key with the chain that packets go to; one with the same chain stays.
    pub fn add_chain_for(&mut self, set: &str, key: &[u8], chain: &str) -> &mut Self {
        const GOTO: i32 = -4;
        self.add_one(set, key, |element| {
            element.nested(attribute::ELEMENT_DATA, |data| {
                data.nested(attribute::DATA_VERDICT, |verdict| {
                    verdict
                        .bytes(attribute::VERDICT_CODE, &GOTO.to_be_bytes())
                        .text(attribute::VERDICT_CHAIN, chain);
                });
            });
        })
    }

    /// Removes a key. The batch is refused (`ENOENT`) where it is not there.
    pub fn delete_key(&mut self, set: &str, key: &[u8]) -> &mut Self {
        let request = self.elements(kind::DELETE_ELEMENTS, 0, set, key, |_plain| {});
        self.push(request)
    }

    fn add_one(&mut self, set: &str, key: &[u8], fill: impl FnOnce(&mut Request)) -> &mut Self {
        let request = self.elements(kind::NEW_ELEMENTS, flags::CREATE, set, key, fill);
        self.push(request)
    }

    fn elements(
        &self,
        what: u16,
        with: u16,
        set: &str,
        key: &[u8],
        fill: impl FnOnce(&mut Request),
    ) -> Request {
        let mut request = message(what, with);
        request
            .text(attribute::ELEMENTS_TABLE, self.table)
            .text(attribute::ELEMENTS_SET, set)
            .nested(attribute::ELEMENTS_LIST, |list| {
                list.nested(attribute::LIST_ELEMENT, |element| {
                    element.nested(attribute::ELEMENT_KEY, |data| {
                        data.bytes(attribute::DATA_VALUE, key);
                    });
                    fill(element);
                });
            });
        request
    }

    /// Removes every rule of a chain, which stays.
    pub fn flush_chain(&mut self, name: &str) -> &mut Self {
        let mut request = message(kind::DELETE_RULE, 0);
        request.text(attribute::RULE_TABLE, self.table).text(attribute::RULE_CHAIN, name);
        self.push(request)
    }

    /// Removes a chain that nothing leads to.
    pub fn delete_chain(&mut self, name: &str) -> &mut Self {
        let mut request = message(kind::DELETE_CHAIN, 0);
        request.text(attribute::CHAIN_TABLE, self.table).text(attribute::CHAIN_NAME, name);
        self.push(request)
    }

    /// Makes a counter; one that exists goes on.
    pub fn create_counter(&mut self, name: &str) -> &mut Self {
        let mut request = counter(kind::NEW_OBJECT, flags::CREATE, self.table, name);
        request.nested(attribute::OBJECT_DATA, |_from_zero| {});
        self.push(request)
    }

    /// Removes a counter that no rule uses.
    pub fn delete_counter(&mut self, name: &str) -> &mut Self {
        let request = counter(kind::DELETE_OBJECT, 0, self.table, name);
        self.push(request)
    }
}

/// The address after this one; none after the last of all.
fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(it) => u32::from(it).checked_add(1).map(|it| IpAddr::V4(it.into())),
        IpAddr::V6(it) => u128::from(it).checked_add(1).map(|it| IpAddr::V6(it.into())),
    }
}

/// Where a range begins, or the first address behind it.
fn bound(list: &mut Request, key: IpAddr, end: bool) {
    const INTERVAL_END: u32 = 1;
    list.nested(attribute::LIST_ELEMENT, |element| {
        if end {
            element.be32(attribute::ELEMENT_FLAGS, INTERVAL_END);
        }
        element.nested(attribute::ELEMENT_KEY, |data| {
            data.ip(attribute::DATA_VALUE, key);
        });
    });
}

/// How many packets a counter of an `inet` table has seen; none where there is none.
///
/// # Errors
///
/// As [`Socket::get`], except that a missing counter is none.
pub fn counted(socket: &mut Socket, table: &str, name: &str) -> Result<Option<u64>, NetlinkError> {
    const PACKETS: u16 = 2;
    match socket.get("read a counter", counter(kind::GET_OBJECT, 0, table, name)) {
        Ok(answer) => Ok(answer.split::<4>().and_then(|(_, attributes)| {
            let data = Attributes::new(attributes.find(attribute::OBJECT_DATA)?);
            Some(u64::from_be_bytes(data.find(PACKETS)?.try_into().ok()?))
        })),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn counter(what: u16, with: u16, table: &str, name: &str) -> Request {
    let mut request = message(what, with);
    request
        .text(attribute::OBJECT_TABLE, table)
        .text(attribute::OBJECT_NAME, name)
        .be32(attribute::OBJECT_TYPE, super::OBJECT_COUNTER);
    request
}
