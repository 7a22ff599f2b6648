//! The settings about what sandboxes reach beyond the public internet, and by what.

use warren_core::egress::IpNetwork;

use super::value::Value;

/// Networks that every sandbox may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(pub(crate) Vec<IpNetwork>);

impl Value for Networks {
    fn kind() -> String {
        "networks and addresses with commas between them, such as `192.168.7.0/24,fd00:7::5`".into()
    }

    fn read(text: &str) -> Option<Self> {
        // Everything is what nobody means who opens a network.
        let one = |text: &str| text.parse().ok().filter(|it: &IpNetwork| it.prefix() > 0);
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(one).collect::<Option<_>>().map(Self)
    }
}

/// Whether sandboxes have IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Six {
    /// Where the machine has a way to the internet by it.
    Auto,
    /// Never.
    Off,
}

impl Value for Six {
    fn kind() -> String {
        "one of auto, off".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_whole_and_not_everything() {
        let read = |text| {
            let networks = Networks::read(text)?.0;
            Some(networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let both = read("192.168.7.0/24, fd00:7::5 ,10.0.0.1");
        assert_eq!(both.as_deref(), Some("192.168.7.0/24 fd00:7::5 10.0.0.1"));
        assert_eq!(read("").as_deref(), Some(""));
        for wrong in
            ["192.168.7.1/24", "0.0.0.0/0", "::/0", "intranet", "10.0.0.0/8:80", "fe80::1%2"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ipv6_is_there_by_itself_or_off() {
        assert_eq!((Six::read("auto"), Six::read("off")), (Some(Six::Auto), Some(Six::Off)));
        assert_eq!(Six::read("on"), None, "it is not for us to give");
    }
}
