//! The bytes of netlink messages: building requests and taking answers apart.
//!
//! A message is a 16-byte header, a fixed header of its family, and attributes. All integers are
//! in the host's byte order unless an attribute says otherwise; everything is padded to 4 bytes.
//! Nothing here panics on malformed input, and a request that would not fit its length fields is
//! marked and refused when it is sent.
//!
//! | bytes    | field      | shape                                        |
//! |----------|------------|----------------------------------------------|
//! | `0..4`   | `length`   | `u32`: of the whole message, header included |
//! | `4..6`   | `kind`     | `u16`                                        |
//! | `6..8`   | `flags`    | `u16`, `NLM_F_*`                             |
//! | `8..12`  | `sequence` | `u32`: an answer repeats the request's       |
//! | `12..16` | `port`     | `u32`: 0 to and from the kernel              |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Flags of a request (`NLM_F_*`).
pub mod flags {
    /// This is a request; always set by [`super::Request::new`].
    pub const REQUEST: u16 = 0x1;
    /// More messages of the same answer follow.
    pub const MULTI: u16 = 0x2;
    /// The kernel answers with success or an error.
    pub const ACK: u16 = 0x4;
    /// An answer that was cut because the tables changed under it.
    pub const DUMP_INTERRUPTED: u16 = 0x10;
    /// All objects, not one.
    pub const DUMP: u16 = 0x300;
    /// Replaces an object that exists.
    pub const REPLACE: u16 = 0x100;
    /// Fails where the object exists.
    pub const EXCLUSIVE: u16 = 0x200;
    /// Makes the object where it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Adds at the end of a list.
    pub const APPEND: u16 = 0x800;
}

/// The bit of an attribute's kind that says its value is a list of attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's kind that are the kind.
const KIND_MASK: u16 = 0x3fff;

/// One message to the kernel, under construction.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    oversized: bool,
}

impl Request {
    /// Starts a message of `kind` with the fixed header of its family, which is padded.
    pub fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | flags::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(family_header);
        let mut request = Self { bytes, oversized: false };
        request.pad();
        request
    }

    /// Adds an attribute with this value.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let Ok(length) = u16::try_from(value.len() + 4) else {
            self.oversized = true;
            return self;
        };
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a `u8`.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Adds a `u32` in the host's byte order, as rtnetlink wants it.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a `u32` in network byte order, as nf_tables wants it.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an address: 4 or 16 bytes, in network byte order.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(value) => self.bytes(kind, &value.octets()),
            IpAddr::V6(value) => self.bytes(kind, &value.octets()),
        }
    }

    /// Adds text with the NUL that the kernel expects after names. Text with a NUL of its own is
    /// refused when the message is sent.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.oversized |= value.contains('\0');
        let mut terminated = Vec::with_capacity(value.len() + 1);
        terminated.extend_from_slice(value.as_bytes());
        terminated.push(0);
        self.bytes(kind, &terminated)
    }

    /// Adds bytes without a header of their own, such as the fixed header of a nested message.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds an attribute that holds the attributes which `fill` adds.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start);
        match (length, self.bytes.get_mut(start..start + 2)) {
            (Ok(length), Some(place)) => place.copy_from_slice(&length.to_ne_bytes()),
            _ => self.oversized = true,
        }
        self
    }

    /// The finished message with this sequence number, or `None` when it cannot be expressed.
    pub(super) fn finish(&mut self, sequence: u32) -> Option<&[u8]> {
        let length = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.get_mut(0..4)?.copy_from_slice(&length.to_ne_bytes());
        self.bytes.get_mut(8..12)?.copy_from_slice(&sequence.to_ne_bytes());
        (!self.oversized).then_some(&*self.bytes)
    }

    /// Whether the kernel was asked to acknowledge.
    pub(super) fn wants_ack(&self) -> bool {
        matches!(self.bytes.get(6..8), Some(&[a, b]) if u16::from_ne_bytes([a, b]) & flags::ACK != 0)
    }

    /// Asks the kernel to acknowledge.
    pub(super) fn ask_ack(&mut self) {
        if let Some([low, high]) = self.bytes.get_mut(6..8) {
            let with_ack = u16::from_ne_bytes([*low, *high]) | flags::ACK;
            [*low, *high] = with_ack.to_ne_bytes();
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message's kind.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// Everything after the header.
    pub body: Vec<u8>,
}

impl Answer {
    /// The fixed header of the family, `N` bytes, and the attributes after it. `None` when the
    /// message is shorter.
    pub fn split<const N: usize>(&self) -> Option<(&[u8; N], Attributes<'_>)> {
        let (head, rest) = self.body.split_first_chunk::<N>()?;
        let padding = N.next_multiple_of(4) - N;
        Some((head, Attributes { bytes: rest.get(padding..).unwrap_or_default() }))
    }
}

/// Splits what one receive call brought into messages; stops at the first that is cut short.
pub fn split_answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let [a, b, c, d, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        answers.push(Answer {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

/// The attributes of a message, in order: kind (without its flag bits) and value. Ends at the
/// first attribute that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads `bytes` as a list of attributes, such as the value of a nested one.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The value of the first attribute of this kind.
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut attributes = self;
        attributes.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The first attribute of this kind, as a `u32` in the host's byte order.
    pub fn find_u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.try_into().ok()?))
    }

    /// The first attribute of this kind, as an address.
    pub fn find_ipv4(self, kind: u16) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.find(kind)?.try_into().ok()?;
        Some(octets.into())
    }

    /// The first attribute of this kind, as an address of IPv6.
    pub fn find_ipv6(self, kind: u16) -> Option<Ipv6Addr> {
        let octets: [u8; 16] = self.find(kind)?.try_into().ok()?;
        Some(octets.into())
    }

    /// The first attribute of this kind, as text up to its NUL.
    pub fn find_text(self, kind: u16) -> Option<&'a str> {
        let value = self.find(kind)?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.bytes.get(4..length)?;
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_built() {
        let mut request = Request::new(16, flags::DUMP, &[9, 9]);
        request.u8(1, 7).text(2, "eth0").nested(3, |inner| {
            inner.u32(4, 0xdead_beef).ip(5, Ipv4Addr::new(10, 0, 0, 1).into());
            inner.ip(6, Ipv6Addr::LOCALHOST.into());
        });
        let bytes = request.finish(77).unwrap().to_vec();

        let answers = split_answers(&bytes);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].kind, answers[0].sequence), (16, 77));
        assert_eq!(answers[0].flags, flags::DUMP | flags::REQUEST);
        let (head, attributes) = answers[0].split::<2>().unwrap();
        assert_eq!(head, &[9, 9]);
        assert_eq!(attributes.find(1), Some(&[7][..]));
        assert_eq!(attributes.find_text(2), Some("eth0"));
        let inner = Attributes::new(attributes.find(3).unwrap());
        assert_eq!(inner.find_u32(4), Some(0xdead_beef));
        assert_eq!(inner.find_ipv4(5), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(inner.find_ipv6(6), Some(Ipv6Addr::LOCALHOST));
        assert_eq!(inner.find(7), None);
    }

    #[test]
    fn a_request_that_does_not_fit_its_length_fields_is_refused() {
        let mut large = Request::new(1, 0, &[]);
        large.bytes(1, &vec![0; 70_000]);
        assert_eq!(large.finish(1), None);

        let mut nested = Request::new(1, 0, &[]);
        nested.nested(1, |inner| {
            inner.bytes(1, &vec![0; 40_000]).bytes(2, &vec![0; 40_000]);
        });
        assert_eq!(nested.finish(1), None);

        let mut text = Request::new(1, 0, &[]);
        text.text(1, "a\0b");
        assert_eq!(text.finish(1), None);
    }

    #[test]
    fn malformed_answers_end_the_list_and_do_not_panic() {
        assert!(split_answers(&[]).is_empty());
        assert!(split_answers(&[0; 15]).is_empty());
        assert!(split_answers(&[0; 16]).is_empty(), "a length of 0 would never end");
        assert!(split_answers(&[0xff; 64]).is_empty());
        let zero_length = [0, 0, 1, 0];
        assert_eq!(Attributes::new(&zero_length).next(), None);
        let too_long = [9, 0, 1, 0, 1];
        assert_eq!(Attributes::new(&too_long).next(), None);
    }
}
