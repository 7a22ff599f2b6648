//! Connections that the kernel tracks: found by whom they began with, and forgotten.
//!
//! # Source
//!
//! The kernel's `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use std::{collections::BTreeSet, net::IpAddr};

use rustix::io::Errno;

use super::{
    NetlinkError, Socket,
    message::{Answer, Attributes, Request, flags},
};

/// `NFNL_SUBSYS_CTNETLINK`, in the high byte of a message's kind.
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIGINAL: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// In a tuple.
const TUPLE_ADDRESSES: u16 = 1;
/// Among its addresses.
const IPV4_SOURCE: u16 = 1;
const IPV6_SOURCE: u16 = 3;
/// In the filter, and its bit for the source.
const FILTER_ORIGINAL: u16 = 1;
const BY_SOURCE: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// How many are deleted with one datagram: some 100 bytes each, within what any socket may send.
const TOGETHER: usize = 512;

/// Has the kernel forget every connection that was begun from these addresses, and returns how many
/// there were. What still comes for one of them is nobody's. All are listed once for each family.
///
/// # Errors
///
/// As [`Socket::list`] and [`Socket::transact`].
pub fn forget(socket: &mut Socket, sources: &BTreeSet<IpAddr>) -> Result<usize, NetlinkError> {
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = sources.iter().partition(|it| it.is_ipv4());
    let mut count = 0;
    for family in [four, six] {
        let Some(first) = family.first() else { continue };
        let mut question = message(GET, flags::DUMP, *first);
        // Of IPv6 the kernel's filter gives all but what was asked for (its comparison is
        // inverted), and it takes one address.
        if first.is_ipv4() && family.len() == 1 {
            filter(&mut question, *first);
        }
        let found = socket.list("list connections", question)?;
        // Kernels before 5.8 do not know the filter, and list all, too.
        let mut deletions: Vec<Request> =
            found.iter().filter_map(|answer| deletion(answer, sources)).collect();
        for part in deletions.chunks_mut(TOGETHER) {
            match socket.transact("forget connections", part) {
                // It has ended meanwhile. The others of this part were deleted none the less.
                Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => {}
                other => other?,
            }
        }
        count += deletions.len();
    }
    Ok(count)
}

/// Has the kernel list what began with this address alone.
fn filter(question: &mut Request, source: IpAddr) {
    question
        .nested(TUPLE_ORIGINAL, |tuple| {
            tuple.nested(TUPLE_ADDRESSES, |addresses| {
                let (kind, octets) = source_of(source);
                addresses.bytes(kind, &octets);
            });
        })
        .nested(FILTER, |filter| {
            filter.u32(FILTER_ORIGINAL, BY_SOURCE);
        });
}

fn message(kind: u16, flags: u16, family: IpAddr) -> Request {
    let family = if family.is_ipv4() { AF_INET } else { AF_INET6 };
    Request::new(kind, flags, &[family, 0, 0, 0])
}

fn source_of(address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (IPV4_SOURCE, address.octets().to_vec()),
        IpAddr::V6(address) => (IPV6_SOURCE, address.octets().to_vec()),
    }
}

/// The request that deletes what an answer is about, if that began with one of `sources`. With its
/// number, so that nothing is deleted that has the same addresses and is younger.
fn deletion(answer: &Answer, sources: &BTreeSet<IpAddr>) -> Option<Request> {
    let (_, attributes) = answer.split::<4>()?;
    let tuple = attributes.find(TUPLE_ORIGINAL)?;
    let addresses = Attributes::new(Attributes::new(tuple).find(TUPLE_ADDRESSES)?);
    let four = addresses.find(IPV4_SOURCE).and_then(|it| <[u8; 4]>::try_from(it).ok());
    let six = addresses.find(IPV6_SOURCE).and_then(|it| <[u8; 16]>::try_from(it).ok());
    let source = four.map(IpAddr::from).or_else(|| six.map(IpAddr::from))?;
    if !sources.contains(&source) {
        return None;
    }
    let mut request = message(DELETE, 0, source);
    request.nested(TUPLE_ORIGINAL, |it| {
        it.raw(tuple);
    });
    for kind in [ID, ZONE] {
        if let Some(value) = attributes.find(kind) {
            request.bytes(kind, value);
        }
    }
    Some(request)
}
