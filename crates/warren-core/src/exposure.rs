//! Who reaches the ports of a sandbox from outside, beside those who hold a token for it.

use std::collections::BTreeSet;

use crate::error::SandboxError;

/// What stands for the number of the port in [`Exposure::mask_host`].
pub const PORT_PLACE: &str = "${PORT}";

/// The port at which the agent itself is reached from outside, in its own protocol: whatever
/// listens there inside is not.
pub const AGENT_PORT: u16 = 49_983;

/// How many ports of one sandbox may be public.
const MOST_PUBLIC: usize = 64;

/// Who reaches the ports of a sandbox from outside. By default nobody without a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Exposure {
    /// The ports that everybody reaches who knows the sandbox's name.
    pub public: BTreeSet<u16>,
    /// Whether those who have no token wake it at a public port while it is paused.
    pub wake: bool,
    /// What requests to its ports have in `Host`, with [`PORT_PLACE`] for the port: `localhost` and
    /// a port, for servers that answer to nothing else. None for the name that was asked for.
    pub mask_host: Option<String>,
    /// How often its tokens were revoked: those of an earlier count are good for nothing.
    pub revision: u32,
    /// What clients of E2B may do, where the sandbox was made for them.
    pub e2b: Option<ForE2b>,
}

/// Who reaches a sandbox that was made for clients of E2B, which expect other defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForE2b {
    /// Whether the agent is reached with its token alone.
    pub secured: bool,
    /// Whether everybody reaches every other port; where not, a token for them all is needed.
    pub public: bool,
}

/// A change of who reaches the ports of a sandbox; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExposureChange {
    /// These are the public ports from now on.
    pub public: Option<BTreeSet<u16>>,
    /// One port that is public from now on, or is not.
    pub port: Option<(u16, bool)>,
    /// See [`Exposure::wake`].
    pub wake: Option<bool>,
    /// See [`Exposure::mask_host`]; an empty one is none.
    pub mask_host: Option<String>,
    /// Whether all tokens are revoked that were given out before.
    pub revoke: bool,
}

impl Exposure {
    /// Whether everybody reaches this port. The agent's own is another matter.
    #[must_use]
    pub fn is_public(&self, port: u16) -> bool {
        port != AGENT_PORT && (self.public.contains(&port) || self.e2b.is_some_and(|it| it.public))
    }

    /// What a request to this port is to have in `Host`; none where it stays as it came.
    #[must_use]
    pub fn host_for(&self, port: u16) -> Option<String> {
        self.mask_host.as_ref().map(|mask| mask.replace(PORT_PLACE, &port.to_string()))
    }

    /// This exposure after a change.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`] for what can never be right.
    pub(crate) fn after(&self, change: ExposureChange) -> Result<Self, SandboxError> {
        let mut next = self.clone();
        if let Some(public) = change.public {
            next.public = public;
        }
        match change.port {
            Some((port, true)) => drop(next.public.insert(port)),
            Some((port, false)) => drop(next.public.remove(&port)),
            None => {}
        }
        next.wake = change.wake.unwrap_or(next.wake);
        if let Some(mask) = change.mask_host {
            next.mask_host = Some(mask).filter(|mask| !mask.is_empty());
        }
        if change.revoke {
            next.revision = next.revision.wrapping_add(1);
        }
        next.check()?;
        Ok(next)
    }

    /// Refuses what can never be right.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        if self.public.contains(&0) {
            return Err(SandboxError::invalid("public_ports", "expected ports, 1 to 65535"));
        }
        if self.public.len() > MOST_PUBLIC {
            let reason = format!("at most {MOST_PUBLIC} are allowed");
            return Err(SandboxError::invalid("public_ports", reason));
        }
        match self.mask_host.as_deref() {
            Some(mask) if !is_host(mask) => {
                let reason = "expected a host such as `localhost:${PORT}`, of at most 255 letters";
                Err(SandboxError::invalid("mask_request_host", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Whether this can stand in a `Host` header once the port is put in.
fn is_host(mask: &str) -> bool {
    let host = mask.replace(PORT_PLACE, "1");
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !host.is_empty() && mask.len() <= 255 && host.bytes().all(good) && !host.starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let start = Exposure { public: [80].into(), wake: true, ..Exposure::default() };
        let one = ExposureChange { port: Some((81, true)), ..ExposureChange::default() };
        let next = start.after(one).unwrap();
        assert_eq!((next.public.len(), next.wake, next.revision), (2, true, 0));
        let change = ExposureChange {
            public: Some([1].into()),
            port: Some((1, false)),
            wake: Some(false),
            mask_host: Some("localhost:${PORT}".into()),
            revoke: true,
        };
        let next = next.after(change).unwrap();
        assert_eq!((next.public.len(), next.wake, next.revision), (0, false, 1));
        assert_eq!(next.host_for(3000).as_deref(), Some("localhost:3000"));
        let none = ExposureChange { mask_host: Some(String::new()), ..ExposureChange::default() };
        assert_eq!(next.after(none).unwrap().mask_host, None);
    }

    #[test]
    fn the_agent_is_public_nowhere() {
        let e2b = Some(ForE2b { secured: true, public: true });
        let open = Exposure { public: [AGENT_PORT].into(), e2b, ..Exposure::default() };
        assert!(open.is_public(80) && !open.is_public(AGENT_PORT));
        let closed = Exposure { e2b: Some(ForE2b { secured: true, public: false }), ..open };
        assert!(!closed.is_public(80));
        let changed = closed.after(ExposureChange { revoke: true, ..Default::default() }).unwrap();
        assert_eq!(changed.e2b, closed.e2b);
    }

    #[test]
    fn what_is_no_host_and_no_port_is_refused() {
        let check = |exposure: Exposure, good: bool| {
            assert_eq!(exposure.check().is_ok(), good, "{exposure:?}");
        };
        for mask in ["localhost", "localhost:${PORT}", "${PORT}.example", "[::1]:80"] {
            check(Exposure { mask_host: Some(mask.into()), ..Exposure::default() }, true);
        }
        for mask in ["a b", "a\r\nx: y", "http://a", "${HOST}", ":80", &"a".repeat(256)] {
            check(Exposure { mask_host: Some(mask.into()), ..Exposure::default() }, false);
        }
        check(Exposure { public: [0].into(), ..Exposure::default() }, false);
        check(Exposure { public: (1..=64).collect(), ..Exposure::default() }, true);
        check(Exposure { public: (1..=65).collect(), ..Exposure::default() }, false);
    }
}
