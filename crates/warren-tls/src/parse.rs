//! What a certificate says that the TLS library does not tell: from when and until when it is good.

use tokio_rustls::rustls::{
    self,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::clock::DAY;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when and until when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub until: u64,
}

/// What is left of a life when its end is near: a sixth, and a month of long ones.
const LAST_PART: u64 = 6;
const LONGEST_END: u64 = 30 * DAY;

impl Validity {
    /// That of the first certificate in this PEM; none where there is none.
    #[must_use]
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        validity(&CertificateDer::from_pem_slice(pem).ok()?)
    }

    /// Whether the end is near, and whoever renews it should have done so.
    #[must_use]
    pub fn is_ending(self, now: u64) -> bool {
        let life = self.until.saturating_sub(self.from);
        self.until.saturating_sub(now) < (life / LAST_PART).min(LONGEST_END)
    }
}

/// A certificate with its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableError {
    /// It is not PEM.
    #[error("expected a certificate and its key in PEM")]
    Pem(#[source] pem::Error),
    /// The TLS library does not take it.
    #[error("the certificate cannot be used with its key")]
    Tls(#[source] rustls::Error),
    /// It is not of this name.
    #[error("the certificate is not of {name}")]
    Name {
        /// Which.
        name: String,
    },
    /// It says nothing about time, or nothing that makes sense.
    #[error("the certificate does not say how long it is good")]
    Time,
}

/// Reads a key and a chain of certificates, both in one text as PEM, and makes sure that they go
/// together and are of these names.
pub(crate) fn certified(
    pem: &[u8],
    names: &[String],
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Validity), UnusableError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(UnusableError::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(UnusableError::Pem)?;
    let first = chain.first().cloned().ok_or(UnusableError::Pem(pem::Error::NoItemsFound))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(UnusableError::Tls)?;
    for name in names {
        // What stands for the star: any label.
        let asked = name.replacen('*', "any", 1);
        if !covers(&first, &asked) {
            return Err(UnusableError::Name { name: name.clone() });
        }
    }
    let validity = validity(&first).ok_or(UnusableError::Time)?;
    Ok((certified, validity))
}

/// Whether a certificate is of this name.
pub(crate) fn covers(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let name = ServerName::try_from(name);
    let parsed = ParsedCertificate::try_from(certificate);
    match (name, parsed) {
        (Ok(name), Ok(parsed)) => verify_server_name(&parsed, &name).is_ok(),
        _ => false,
    }
}

/// From when and until when a certificate is good; none where it is none.
///
/// # Source
///
/// RFC 5280, sections 4.1 and 4.1.2.5.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (outer, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(outer, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _serial_algorithm_issuer in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some(Validity { from: time(tag, from)?, until: time(until_tag, until)? })
}

/// The contents of the first element, if it has this tag, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// The tag and the contents of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let count = usize::from(long & 0x7f);
            let (digits, rest) =
                rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

/// A point in time, in seconds since 1970.
fn time(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(number);
    let (month, day) = (part(0)?, part(2)?);
    let (hours, minutes, seconds) = (part(4)?, part(6)?, part(8)?);
    if rest.len() != 10 || year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day)? * DAY + hours * 3600 + minutes * 60 + seconds)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Days since 1970, by counting years from March on.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let of_year = (153 * months + 2) / 5 + day - 1;
    let all = year * 365 + year / 4 - year / 100 + year / 400 + of_year;
    all.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(names: &[&str], until: i32) -> (String, Vec<u8>) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(until, 3, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
        (pem, certificate.der().to_vec())
    }

    #[test]
    fn a_certificate_says_how_long_it_is_good() {
        for (until, seconds) in [(2030, 1_898_553_600), (2060, 2_845_324_800)] {
            let (_, der) = made(&["a.example"], until);
            let expected = Validity { from: 1_709_164_800, until: seconds };
            assert_eq!(validity(&der), Some(expected));
        }
    }

    #[test]
    fn the_end_is_near_in_the_last_part_of_a_life_and_in_the_last_month_of_a_long_one() {
        let check = |days: u64, left: u64, expected: bool| {
            let validity = Validity { from: 0, until: days * DAY };
            assert_eq!(validity.is_ending((days - left) * DAY), expected, "{left} of {days}");
        };
        check(90, 16, false);
        check(90, 14, true);
        check(6, 2, false);
        check(6, 0, true);
        check(3650, 31, false);
        check(3650, 29, true);
        let (pem, _) = made(&["a.example"], 2030);
        assert_eq!(Validity::of_pem(pem.as_bytes()).unwrap().until, 1_898_553_600);
        assert_eq!(Validity::of_pem(b"nothing"), None);
    }

    #[test]
    fn what_is_cut_short_or_changed_says_nothing_and_does_no_harm() {
        let (_, der) = made(&["a.example"], 2030);
        for length in 0..der.len().min(200) {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 0xff;
            let _only_must_not_panic = validity(&changed);
        }
    }

    #[test]
    fn a_certificate_is_of_all_its_names_and_of_no_other() {
        let (pem, _) = made(&["a.example", "*.a.example"], 2030);
        let provider = rustls::crypto::ring::default_provider();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        certified(pem.as_bytes(), &names(&["a.example", "*.a.example"]), &provider).unwrap();
        let other = certified(pem.as_bytes(), &names(&["b.example"]), &provider).unwrap_err();
        assert_eq!(other.to_string(), "the certificate is not of b.example");
        certified(b"nothing", &[], &provider).unwrap_err();
        let (other, _) = made(&["a.example"], 2030);
        let (key, _) = other.split_once("-----BEGIN CERTIFICATE").unwrap();
        let (_, chain) = pem.split_once("-----BEGIN CERTIFICATE").unwrap();
        let mixed = format!("{key}-----BEGIN CERTIFICATE{chain}");
        let error = certified(mixed.as_bytes(), &[], &provider).unwrap_err();
        assert!(matches!(error, UnusableError::Tls(_)), "{error}");
    }
}
