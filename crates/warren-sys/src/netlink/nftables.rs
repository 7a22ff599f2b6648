//! nf_tables: tables, chains, sets and rules, changed in transactions.
//!
//! A [`Batch`] collects changes to one table of the `inet` family and is applied as a whole or
//! not at all. A rule is a list of [`Expression`]s which the kernel runs in order on each
//! packet until one does not match. Values pass through one register.
//!
//! All integers of this family are in network byte order, except what is compared with a value
//! that the kernel itself keeps in the host's (interface groups, connection states).

use std::net::IpAddr;

use super::{
    NetlinkError, Socket,
    message::{Request, flags},
};

mod sets;

pub use sets::{Elements, Keys, Range, counted, interface_key};

/// The group of [`Socket::subscribe`] that all changes of tables are announced to.
pub const EVENTS: u32 = 1 << 6;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
/// `NFT_REG_1`: the register that expressions of a rule pass values through.
const REGISTER: u32 = 1;
/// `NFT_REG32_00`: the first of the registers of four bytes; the same place as [`REGISTER`].
const REGISTER_4: u32 = 8;
/// `NFT_REG_2`.
const REGISTER_SECOND: u32 = 2;
/// The number of the kind of objects that count.
const OBJECT_COUNTER: u32 = 1;
/// `NFT_REG_VERDICT`: where an immediate value is a verdict.
const REGISTER_VERDICT: u32 = 0;

/// `NFT_MSG_*`, within the subsystem.
mod kind {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const DELETE_CHAIN: u16 = 5;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const GET_RULE: u16 = 7;
    pub(super) const DELETE_RULE: u16 = 8;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const GET_ELEMENTS: u16 = 13;
    pub(super) const DELETE_ELEMENTS: u16 = 14;
    pub(super) const NEW_OBJECT: u16 = 18;
    pub(super) const GET_OBJECT: u16 = 19;
    pub(super) const DELETE_OBJECT: u16 = 20;
}

/// `NFTA_*`, by what they are attributes of.
mod attribute {
    pub(super) const LIST_ELEMENT: u16 = 1;
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const VERDICT_CHAIN: u16 = 2;
    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LENGTH: u16 = 5;
    pub(super) const SET_DATA_TYPE: u16 = 6;
    pub(super) const SET_DATA_LENGTH: u16 = 7;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const ELEMENTS_TABLE: u16 = 1;
    pub(super) const ELEMENTS_SET: u16 = 2;
    pub(super) const ELEMENTS_LIST: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_DATA: u16 = 2;
    pub(super) const ELEMENT_FLAGS: u16 = 3;
    pub(super) const ELEMENT_TIMEOUT: u16 = 4;
    pub(super) const OBJECT_TABLE: u16 = 1;
    pub(super) const OBJECT_NAME: u16 = 2;
    pub(super) const OBJECT_TYPE: u16 = 3;
    pub(super) const OBJECT_DATA: u16 = 4;
}

/// Where in a packet's way a base chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// As it comes in.
    Prerouting = 0,
    /// When it is for this host.
    Input = 1,
    /// When it passes through.
    Forward = 2,
    /// When this host made it.
    Output = 3,
    /// As it leaves.
    Postrouting = 4,
}

/// A chain that the kernel itself calls; what no rule decides is accepted.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// Order among chains of the same hook: lower comes first.
    pub priority: i32,
}

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
        /// The set, of [`Keys::Answer`].
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
    const fn layout(self) -> (usize, u32, u32) {
        match self {
            Self::Four => (4, 12, 16),
            Self::Six => (16, 8, 24),
        }
    }

    /// The number of the type of addresses as keys of sets; only `nft list` looks at it.
    const fn type_number(self) -> u32 {
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

/// Changes to one `inet` table, applied together.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    table: &'a str,
    requests: Vec<Request>,
    sets: u32,
}

impl<'a> Batch<'a> {
    /// Starts a batch for this table.
    pub fn new(table: &'a str) -> Self {
        Self { table, requests: vec![marker(BATCH_BEGIN)], sets: 0 }
    }

    /// Makes the table; one that exists stays as it is.
    pub fn create_table(&mut self) -> &mut Self {
        let mut request = message(kind::NEW_TABLE, flags::CREATE);
        request.text(attribute::TABLE_NAME, self.table);
        self.push(request)
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) -> &mut Self {
        let mut request = message(kind::DELETE_TABLE, 0);
        request.text(attribute::TABLE_NAME, self.table);
        self.push(request)
    }

    /// Makes a chain that rules jump to.
    pub fn create_chain(&mut self, name: &str) -> &mut Self {
        let mut request = message(kind::NEW_CHAIN, flags::CREATE);
        request.text(attribute::CHAIN_TABLE, self.table).text(attribute::CHAIN_NAME, name);
        self.push(request)
    }

    /// Makes a chain that the kernel calls.
    pub fn create_base_chain(&mut self, name: &str, base: BaseChain) -> &mut Self {
        const ACCEPT: u32 = 1;
        let mut request = message(kind::NEW_CHAIN, flags::CREATE);
        request
            .text(attribute::CHAIN_TABLE, self.table)
            .text(attribute::CHAIN_NAME, name)
            .nested(attribute::CHAIN_HOOK, |hook| {
                hook.be32(attribute::HOOK_NUMBER, base.hook as u32)
                    .bytes(attribute::HOOK_PRIORITY, &base.priority.to_be_bytes());
            })
            .be32(attribute::CHAIN_POLICY, ACCEPT)
            .text(attribute::CHAIN_TYPE, base.kind);
        self.push(request)
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) -> &mut Self {
        let mut request = message(kind::NEW_RULE, flags::CREATE | flags::APPEND);
        request.text(attribute::RULE_TABLE, self.table).text(attribute::RULE_CHAIN, chain).nested(
            attribute::RULE_EXPRESSIONS,
            |list| {
                for expression in expressions {
                    expression.encode(list);
                }
            },
        );
        self.push(request)
    }

    /// Applies all changes, or none.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub fn apply(
        mut self,
        socket: &mut Socket,
        operation: &'static str,
    ) -> Result<(), NetlinkError> {
        // One answer for all of them: what is refused is answered in any case, and the answers to a
        // long batch would not fit into the socket.
        self.requests.iter_mut().skip(1).next_back().into_iter().for_each(Request::ask_ack);
        self.requests.push(marker(BATCH_END));
        socket.transact(operation, &mut self.requests)
    }

    fn push(&mut self, request: Request) -> &mut Self {
        self.requests.push(request);
        self
    }
}

/// Whether there is an `inet` table of this name.
///
/// # Errors
///
/// As [`Socket::get`], except that a missing table is `false`.
pub fn table_exists(socket: &mut Socket, name: &str) -> Result<bool, NetlinkError> {
    let mut request = message(kind::GET_TABLE, 0);
    request.text(attribute::TABLE_NAME, name);
    match socket.get("look up a table of packet filters", request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a chain of an `inet` table is there and has rules.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn has_rules(socket: &mut Socket, table: &str, chain: &str) -> Result<bool, NetlinkError> {
    let mut request = message(kind::GET_RULE, flags::DUMP);
    request.text(attribute::RULE_TABLE, table).text(attribute::RULE_CHAIN, chain);
    let rules = socket.list("list the rules of a chain", request)?;
    // Kernels that know no such filter list all.
    let is_of = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        let named = attributes.find_text(attribute::RULE_TABLE)? == table
            && attributes.find_text(attribute::RULE_CHAIN)? == chain;
        named.then_some(())
    };
    Ok(rules.iter().any(|rule| is_of(rule).is_some()))
}

/// How many elements a set of an `inet` table has.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<usize, NetlinkError> {
    let mut request = message(kind::GET_ELEMENTS, flags::DUMP);
    request.text(attribute::ELEMENTS_TABLE, table).text(attribute::ELEMENTS_SET, set);
    let answers = socket.list("list the elements of a set", request)?;
    let count = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        let list = super::message::Attributes::new(attributes.find(attribute::ELEMENTS_LIST)?);
        Some(list.count())
    };
    Ok(answers.iter().filter_map(count).sum())
}

/// Names of all `inet` tables.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn tables(socket: &mut Socket) -> Result<Vec<String>, NetlinkError> {
    let request = message(kind::GET_TABLE, flags::DUMP);
    let answers = socket.list("list tables of packet filters", request)?;
    let name = |answer: &super::message::Answer| {
        let (_, attributes) = answer.split::<4>()?;
        attributes.find_text(attribute::TABLE_NAME).map(str::to_owned)
    };
    Ok(answers.iter().filter_map(name).collect())
}

/// A message of the subsystem; its fixed header is family, version and a resource number.
fn message(kind: u16, flags: u16) -> Request {
    Request::new(SUBSYSTEM << 8 | kind, flags, &[NFPROTO_INET, 0, 0, 0])
}

/// The message that begins or ends a transaction of the subsystem.
fn marker(kind: u16) -> Request {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Request::new(kind, 0, &[NFPROTO_UNSPEC, 0, high, low])
}

impl Expression<'_> {
    /// Adds this step, which may be several of the kernel's expressions, to a rule's list.
    fn encode(&self, list: &mut Request) {
        match *self {
            Self::Meta { key, not, value } => {
                named(list, "meta", |data| {
                    data.be32(1, REGISTER).be32(2, key as u32);
                });
                compare(list, not, value);
            }
            Self::Group { of, mask, group } => {
                named(list, "meta", |data| {
                    data.be32(1, REGISTER).be32(2, of as u32);
                });
                bitwise(list, &mask.to_ne_bytes());
                compare(list, false, &group.to_ne_bytes());
            }
            Self::Payload { base, offset, value } => {
                load(list, base, offset, value.len());
                compare(list, false, value);
            }
            Self::Source { network, prefix, not } => {
                let (length, source, _) = Family::of(network).layout();
                load(list, Header::Network, source, length);
                within(list, network, prefix, not);
            }
            Self::Destination { network, prefix } => {
                let (length, _, destination) = Family::of(network).layout();
                load(list, Header::Network, destination, length);
                within(list, network, prefix, false);
            }
            Self::DestinationIn(family, set) => {
                let (length, _, destination) = family.layout();
                load(list, Header::Network, destination, length);
                named(list, "lookup", |data| {
                    data.text(1, set).be32(2, REGISTER);
                });
            }
            Self::RoutingHeader => {
                const ROUTING: u8 = 43;
                const PRESENT: u32 = 1;
                named(list, "exthdr", |data| {
                    data.be32(1, REGISTER).u8(2, ROUTING).be32(3, 0).be32(4, 1).be32(5, PRESENT);
                });
                compare(list, false, &[1]);
            }
            Self::Ports((first, last)) => {
                load(list, Header::Transport, 2, 2);
                named(list, "range", |data| {
                    data.be32(1, REGISTER).be32(2, 0);
                    for (kind, port) in [(3, first), (4, last)] {
                        data.nested(kind, |value| {
                            value.bytes(attribute::DATA_VALUE, &port.to_be_bytes());
                        });
                    }
                });
            }
            Self::InputIn(set) => {
                input_name(list);
                named(list, "lookup", |data| {
                    data.text(1, set).be32(2, REGISTER);
                });
            }
            Self::ChainOfInput(map) => {
                input_name(list);
                named(list, "lookup", |data| {
                    data.text(1, map).be32(2, REGISTER).be32(3, REGISTER_VERDICT);
                });
            }
            Self::Answered { family, set, numbers: [first, second] } => {
                let (length, _, destination) = family.layout();
                immediate(list, REGISTER_4, &first.to_ne_bytes());
                immediate(list, REGISTER_4 + 1, &second.to_ne_bytes());
                named(list, "payload", |data| {
                    data.be32(1, REGISTER_4 + 2)
                        .be32(2, Header::Network as u32)
                        .be32(3, destination)
                        .be32(4, u32::try_from(length).unwrap_or(u32::MAX));
                });
                named(list, "lookup", |data| {
                    data.text(1, set).be32(2, REGISTER_4);
                });
            }
            Self::Mark(mark) => {
                named(list, "ct", |data| {
                    data.be32(1, REGISTER).be32(2, CT_MARK);
                });
                compare(list, false, &mark.to_ne_bytes());
            }
            Self::SetMark(mark) => {
                immediate(list, REGISTER, &mark.to_ne_bytes());
                named(list, "ct", |data| {
                    data.be32(2, CT_MARK).be32(4, REGISTER);
                });
            }
            Self::Redirected => {
                const DESTINATION_TRANSLATED: u32 = 1 << 5;
                named(list, "ct", |data| {
                    data.be32(1, REGISTER).be32(2, CT_STATUS);
                });
                bitwise(list, &DESTINATION_TRANSLATED.to_ne_bytes());
                compare(list, true, &[0; 4]);
            }
            Self::Redirect { address, port } => {
                const DESTINATION: u32 = 1;
                let family = match address {
                    IpAddr::V4(address) => {
                        immediate(list, REGISTER, &address.octets());
                        libc::AF_INET
                    }
                    IpAddr::V6(address) => {
                        immediate(list, REGISTER, &address.octets());
                        libc::AF_INET6
                    }
                };
                immediate(list, REGISTER_SECOND, &port.to_be_bytes());
                named(list, "nat", |data| {
                    data.be32(1, DESTINATION).be32(2, family.unsigned_abs());
                    data.be32(3, REGISTER).be32(5, REGISTER_SECOND);
                });
            }
            Self::Limit { per_second, burst } => named(list, "limit", |data| {
                const SECOND: u64 = 1;
                data.bytes(1, &u64::from(per_second).to_be_bytes())
                    .bytes(2, &SECOND.to_be_bytes())
                    .be32(3, burst)
                    .be32(4, 0);
            }),
            Self::Log { group, prefix } => named(list, "log", |data| {
                data.bytes(1, &group.to_be_bytes()).text(2, prefix);
            }),
            Self::Count(counter) => named(list, "objref", |data| {
                data.be32(1, OBJECT_COUNTER).text(2, counter);
            }),
            Self::ConnectionState(states) => {
                named(list, "ct", |data| {
                    data.be32(1, REGISTER).be32(2, 0);
                });
                bitwise(list, &states.to_ne_bytes());
                compare(list, true, &[0; 4]);
            }
            Self::SourceMissing => {
                const RESULT_INTERFACE: u32 = 1;
                const SOURCE_AND_INPUT: u32 = 1 | 1 << 3;
                named(list, "fib", |data| {
                    data.be32(1, REGISTER).be32(2, RESULT_INTERFACE).be32(3, SOURCE_AND_INPUT);
                });
                compare(list, false, &[0; 4]);
            }
            Self::Verdict(verdict) => verdict.encode(list),
            Self::Reject(how) => {
                let (kind, code) = match how {
                    Reject::TcpReset => (1, 0),
                    Reject::Prohibited => (2, 3),
                };
                named(list, "reject", |data| {
                    data.be32(1, kind).u8(2, code);
                });
            }
            Self::Masquerade => named(list, "masq", |_| {}),
        }
    }
}

impl Verdict<'_> {
    fn encode(self, list: &mut Request) {
        let (code, chain): (i32, _) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        named(list, "immediate", |data| {
            data.be32(1, REGISTER_VERDICT).nested(2, |value| {
                value.nested(attribute::DATA_VERDICT, |verdict| {
                    verdict.bytes(attribute::VERDICT_CODE, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        verdict.text(attribute::VERDICT_CHAIN, chain);
                    }
                });
            });
        });
    }
}

/// `NFT_CT_*`.
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;

/// Loads the name of the interface that the packet came from.
fn input_name(list: &mut Request) {
    named(list, "meta", |data| {
        data.be32(1, REGISTER).be32(2, Meta::InputName as u32);
    });
}

/// Loads a value.
fn immediate(list: &mut Request, register: u32, value: &[u8]) {
    named(list, "immediate", |data| {
        data.be32(1, register).nested(2, |operand| {
            operand.bytes(attribute::DATA_VALUE, value);
        });
    });
}

/// Adds one of the kernel's expressions.
fn named(list: &mut Request, name: &str, fill: impl FnOnce(&mut Request)) {
    list.nested(attribute::LIST_ELEMENT, |expression| {
        expression.text(attribute::EXPRESSION_NAME, name).nested(attribute::EXPRESSION_DATA, fill);
    });
}

/// Loads bytes of a header into the register.
fn load(list: &mut Request, base: Header, offset: u32, length: usize) {
    named(list, "payload", |data| {
        data.be32(1, REGISTER)
            .be32(2, base as u32)
            .be32(3, offset)
            .be32(4, u32::try_from(length).unwrap_or(u32::MAX)); // the kernel takes at most 16
    });
}

/// Goes on only if the register is (or is not) this value.
fn compare(list: &mut Request, not: bool, value: &[u8]) {
    named(list, "cmp", |data| {
        data.be32(1, REGISTER).be32(2, u32::from(not)).nested(3, |operand| {
            operand.bytes(attribute::DATA_VALUE, value);
        });
    });
}

/// Goes on only if the address in the register is (or is not) in this network.
fn within(list: &mut Request, network: IpAddr, prefix: u8, not: bool) {
    match network {
        IpAddr::V4(first) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            bitwise(list, &mask.to_be_bytes());
            compare(list, not, &first.octets());
        }
        IpAddr::V6(first) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            bitwise(list, &mask.to_be_bytes());
            compare(list, not, &first.octets());
        }
    }
}

/// Keeps only these bits of the register.
fn bitwise<const N: usize>(list: &mut Request, mask: &[u8; N]) {
    named(list, "bitwise", |data| {
        data.be32(1, REGISTER).be32(2, REGISTER).be32(3, u32::try_from(N).unwrap_or(u32::MAX));
        data.nested(4, |operand| {
            operand.bytes(attribute::DATA_VALUE, mask);
        });
        data.nested(5, |operand| {
            operand.bytes(attribute::DATA_VALUE, &[0; N]);
        });
    });
}
