//! How the kernel is told the steps of a rule.

use std::net::IpAddr;

use super::{
    OBJECT_COUNTER,
    expression::{Expression, Family, Header, Meta, Reject, Verdict},
    numbers::attribute,
};
use crate::netlink::message::Request;

/// `NFT_REG_1`: the register that expressions of a rule pass values through.
const REGISTER: u32 = 1;
/// `NFT_REG32_00`: the first of the registers of four bytes; the same place as [`REGISTER`].
const REGISTER_4: u32 = 8;
/// `NFT_REG_2`.
const REGISTER_SECOND: u32 = 2;
/// `NFT_REG_VERDICT`: where an immediate value is a verdict.
const REGISTER_VERDICT: u32 = 0;

impl Expression<'_> {
    /// Adds this step, which may be several of the kernel's expressions, to a rule's list.
    pub(super) fn encode(&self, list: &mut Request) {
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
