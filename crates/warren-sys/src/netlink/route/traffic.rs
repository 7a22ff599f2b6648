//! What went through an interface, and how fast it may.

use super::{ROOT, link_header};
use crate::netlink::{
    NetlinkError, Socket,
    message::{Request, flags},
};

/// `IFLA_STATS64`.
const STATISTICS: u16 = 23;
/// `TCA_*`.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_TBF_*`.
const PARAMETERS: u16 = 1;
const RATE: u16 = 4;
const BURST: u16 = 6;

/// What went through an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came in by it.
    pub received_packets: u64,
    /// Packets that left by it.
    pub sent_packets: u64,
    /// Bytes that came in by it.
    pub received_bytes: u64,
    /// Bytes that left by it.
    pub sent_bytes: u64,
}

/// What went through the interface of this name, if there is one.
///
/// # Errors
///
/// As [`Socket::get`], except that a missing interface is none.
pub fn counts(socket: &mut Socket, name: &str) -> Result<Option<Counts>, NetlinkError> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name);
    match socket.get("read the counters of an interface", request) {
        Ok(answer) => Ok(answer.split::<16>().and_then(|(_, attributes)| {
            let numbers = attributes.find(STATISTICS)?;
            let number = |place: usize| {
                let bytes = numbers.get(place * 8..place * 8 + 8)?;
                Some(u64::from_ne_bytes(bytes.try_into().ok()?))
            };
            Some(Counts {
                received_packets: number(0)?,
                sent_packets: number(1)?,
                received_bytes: number(2)?,
                sent_bytes: number(3)?,
            })
        })),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Limits what leaves by an interface: a token bucket that holds packets back.
pub fn limit_rate(link: u32, bytes_per_second: u64) -> Request {
    const ETHERNET: u8 = 1;
    // What may leave at once: a twentieth of a second's worth, and a large packet in any case.
    let burst = u32::try_from(bytes_per_second / 20).unwrap_or(u32::MAX).clamp(16 << 10, 4 << 20);
    let waiting = burst.saturating_mul(2).max(128 << 10);
    // `struct tc_tbf_qopt`: two `tc_ratespec` of 12 bytes, then limit, buffer and mtu.
    let mut parameters = [0_u8; 36];
    let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    if let Some(place) = parameters.get_mut(1) {
        *place = ETHERNET;
    }
    for (at, number) in [(8, rate), (24, waiting)] {
        if let Some(place) = parameters.get_mut(at..at + 4) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
    }
    let mut request =
        Request::new(libc::RTM_NEWQDISC, flags::CREATE | flags::REPLACE, &queue_header(link));
    request.text(KIND, "tbf").nested(OPTIONS, |options| {
        options
            .bytes(PARAMETERS, &parameters)
            .bytes(RATE, &bytes_per_second.to_ne_bytes())
            .u32(BURST, burst);
    });
    request
}

/// Takes the limit of an interface away. `ENOENT` or `EINVAL` where it has none.
pub fn unlimit_rate(link: u32) -> Request {
    Request::new(libc::RTM_DELQDISC, 0, &queue_header(link))
}

/// `struct tcmsg`: family, padding, interface, handle, parent, info.
fn queue_header(link: u32) -> [u8; 20] {
    let mut head = [0; 20];
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    head[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    head
}
