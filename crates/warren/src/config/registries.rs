//! Settings about registries of images.

use super::value::Value;

/// Hosts, perhaps with a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Value for Names {
    fn kind() -> String {
        "registries such as `docker.io` or `registry.example:5000`, separated by commas".into()
    }

    fn read(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let text = text.trim();
            (text == "*" || is_host(text)).then(|| text.to_owned())
        };
        text.split(',').map(name).collect::<Option<_>>().map(Self)
    }

    fn initial(default: Option<&str>) -> Self {
        default.and_then(Self::read).unwrap_or_default()
    }
}

/// Which registry is asked for in which other place: its name and that place's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirrors(pub(crate) Vec<(String, String)>);

impl Value for Mirrors {
    fn kind() -> String {
        "REGISTRY=ADDRESS such as `docker.io=https://mirror.example`, separated by commas".into()
    }

    fn read(text: &str) -> Option<Self> {
        let pair = |text: &str| {
            let (registry, address) = text.trim().split_once('=')?;
            let address = address.trim_end_matches('/');
            (is_host(registry) && is_address(address))
                .then(|| (registry.to_owned(), address.to_owned()))
        };
        text.split(',').map(pair).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

/// The address of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy(pub(crate) String);

impl Value for Option<Proxy> {
    fn kind() -> String {
        "an address such as `http://proxy.example:3128`".into()
    }

    fn read(text: &str) -> Option<Self> {
        is_address(text).then(|| Some(Proxy(text.to_owned())))
    }

    fn initial(_default: Option<&str>) -> Self {
        None
    }
}

fn is_host(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|it| it.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_an_address() {
        let read = |text| Mirrors::read(text).map(|it| it.0);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            read("docker.io=https://a.example/x/, b.example:5000=http://127.0.0.1:5001"),
            Some(vec![
                pair("docker.io", "https://a.example/x"),
                pair("b.example:5000", "http://127.0.0.1:5001"),
            ])
        );
        for wrong in ["", "docker.io", "docker.io=", "docker.io=ftp://a", "=https://a"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_registry_is_a_host() {
        let read = |text| Names::read(text).map(|it| it.0.len());
        assert_eq!(read("docker.io,localhost:5000,*"), Some(3));
        assert_eq!(read("https://docker.io"), None);
        assert_eq!(read("a,,b"), None);
        assert_eq!(Option::<Proxy>::read("proxy:3128"), None);
    }
}
