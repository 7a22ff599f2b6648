//! The kinds of settings: each reads itself from text and writes itself back.

use std::{fmt, net::Ipv4Addr, path::PathBuf, time::Duration};

use warren_api::{network::Reach, sandbox::Profile};

/// A kind of setting.
pub(crate) trait Value: Sized {
    /// What it is, for the reference page and for error messages after "expected".
    fn kind() -> String;

    /// Reads it; `None` when the text is something else.
    fn read(text: &str) -> Option<Self>;

    /// What it is before any source has spoken, from the table's `default`.
    fn initial(default: Option<&str>) -> Self {
        #[expect(clippy::expect_used, reason = "a test reads every default of the table")]
        default.and_then(Self::read).expect("the table's defaults read")
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Value for Size {
    fn kind() -> String {
        "a size such as `512 MiB`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return None,
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self);
        }
        let number: f64 = number.parse().ok().filter(|it| *it >= 0.0 && *it < 1e6)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        let bytes = (number * (1_u64 << shift) as f64) as u64;
        Some(Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole =
            units.iter().find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match whole {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| format!("expected {}", Self::kind()))
    }
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lasting(pub(crate) Duration);

impl Value for Lasting {
    fn kind() -> String {
        "a duration such as `30s` or `1h 30m`; `0` for none".into()
    }

    fn read(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        humantime::parse_duration(text).ok().map(Self)
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl std::str::FromStr for Lasting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| format!("expected {}", Self::kind()))
    }
}

/// Processor time in thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) u32);

impl Value for Cpus {
    fn kind() -> String {
        "a number of processor cores such as `1.5`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let cores: f64 = text.parse().ok()?;
        let millis = (cores * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked here")]
        (1.0..=4_000_000.0).contains(&millis).then_some(Self(millis as u32))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl std::str::FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| format!("expected {}", Self::kind()))
    }
}

impl Value for Option<Size> {
    fn kind() -> String {
        Size::kind()
    }

    fn read(text: &str) -> Option<Self> {
        Size::read(text).map(Some)
    }

    fn initial(_default: Option<&str>) -> Self {
        None
    }
}

/// A block of private IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl Value for Subnet {
    fn kind() -> String {
        "a private IPv4 network of /8 to /23 such as `10.213.0.0/16`".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let subnet = Self { address, prefix };
        let whole = (8..=23).contains(&prefix) && u32::from(address) & !subnet.mask() == 0;
        let carrier = u32::from(address) >> 22 == u32::from(Ipv4Addr::new(100, 64, 0, 0)) >> 22;
        (whole && (address.is_private() || carrier)).then_some(subnet)
    }
}

impl Subnet {
    /// The bits that are the network's.
    pub(crate) fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Value for Option<Subnet> {
    fn kind() -> String {
        Subnet::kind()
    }

    fn read(text: &str) -> Option<Self> {
        Subnet::read(text).map(Some)
    }

    fn initial(_default: Option<&str>) -> Self {
        None
    }
}

/// Directories of this machine that every sandbox may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directories(pub(crate) Vec<(PathBuf, bool)>);

impl Value for Directories {
    fn kind() -> String {
        "absolute paths with commas between them, `:ro` behind those to be read only".into()
    }

    fn read(text: &str) -> Option<Self> {
        let one = |text: &str| {
            let (path, read_only) = match text.strip_suffix(":ro") {
                Some(path) => (path, true),
                None => (text, false),
            };
            let path = PathBuf::from(path);
            let clean = path.components().all(|it| it != std::path::Component::ParentDir);
            // The root would give everything away, and is never meant.
            (path.is_absolute() && clean && path.parent().is_some()).then_some((path, read_only))
        };
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(one).collect::<Option<_>>().map(Self)
    }
}

impl Value for u32 {
    fn kind() -> String {
        "a whole number".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for bool {
    fn kind() -> String {
        "`true` or `false`".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for String {
    fn kind() -> String {
        "text".into()
    }

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

impl Value for Option<PathBuf> {
    fn kind() -> String {
        "an absolute path".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.starts_with('/').then(|| Some(PathBuf::from(text)))
    }

    fn initial(_default: Option<&str>) -> Self {
        None
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant,)+
        }
        $crate::config::value::words!(impl $name { $($variant = $word,)+ });
    };
    (impl $name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl Value for $name {
            fn kind() -> String {
                format!("one of {}", [$($word),+].join(", "))
            }

            fn read(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use words;

words! {
    /// A way of isolating.
    Runtime {
        /// Linux namespaces.
        Namespace = "namespace",
    }
}

words! {
    /// Where the files of sandboxes are kept.
    Storage {
        /// As the data directory's filesystem allows.
        Auto = "auto",
        /// In plain directories.
        Dir = "dir",
        /// In btrfs subvolumes; the data directory must be on btrfs.
        Btrfs = "btrfs",
    }
}

words! {
    /// What carries the packets of an ordinary user's server.
    Uplink {
        /// The first that is there and works.
        Auto = "auto",
        /// `pasta`.
        Pasta = "pasta",
        /// `slirp4netns`.
        Slirp4netns = "slirp4netns",
    }
}

words! {
    /// How much is written to the log.
    Level {
        /// What somebody should act on.
        Error = "error",
        /// What is degraded.
        Warn = "warn",
        /// What happens to sandboxes.
        Info = "info",
        /// The rest.
        Debug = "debug",
    }
}

words!(impl Profile { Default = "default", Strict = "strict", });
words!(impl Reach { Open = "open", None = "none", });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_any_usual_unit() {
        for (text, bytes) in [
            ("512 MiB", Some(512 << 20)),
            ("512m", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("2kb", Some(2048)),
            ("4096", Some(4096)),
            ("1 TiB", Some(1 << 40)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1 parsec", None),
            ("99999999999999999999", None),
            ("99999999999 TiB", None),
        ] {
            assert_eq!(Size::read(text), bytes.map(Size), "{text}");
        }
        assert_eq!(Size(512 << 20).to_string(), "512 MiB");
        assert_eq!(Size(1000).to_string(), "1000 B");
    }

    #[test]
    fn cores_are_read_to_a_thousandth() {
        for (text, millis) in [("1.5", Some(1500)), ("2", Some(2000)), ("0", None), ("x", None)] {
            assert_eq!(Cpus::read(text), millis.map(Cpus), "{text}");
        }
        assert_eq!(Cpus(1500).to_string(), "1.5");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(Lasting::read("1h 30m"), Some(Lasting(Duration::from_secs(5400))));
        assert_eq!(Lasting::read("0"), Some(Lasting(Duration::ZERO)));
        assert_eq!(Lasting::read("90"), None, "a number without a unit says nothing");
    }

    #[test]
    fn directories_are_read_with_what_may_be_done() {
        let read = Directories::read("/srv/a:ro, /srv/b").unwrap();
        assert_eq!(read.0, [("/srv/a".into(), true), ("/srv/b".into(), false)]);
        assert_eq!(Directories::read(""), Some(Directories::default()));
        for bad in ["a", "/", "/a/../b", "/a,b"] {
            assert_eq!(Directories::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subnet_is_whole_and_private() {
        assert_eq!(Subnet::read("10.231.0.0/16").unwrap().to_string(), "10.231.0.0/16");
        assert!(Subnet::read("100.64.0.0/12").is_some());
        for text in ["10.231.0.1/16", "8.8.0.0/16", "10.0.0.0/33", "10.0.0.0/30", "10.0.0.0"] {
            assert_eq!(Subnet::read(text), None, "{text}");
        }
    }
}
