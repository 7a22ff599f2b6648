//! A network namespace behind the host with plain NAT: what a sandbox is compared with.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
};

use crate::{
    Internet, InternetError,
    wires::{self, Veth},
};

/// What the host has for its neighbour.
const AT_HOST: &str = "\
address add 10.77.0.1/24 dev neighbour
link set neighbour up
";

/// What the neighbour has.
const AT_NEIGHBOUR: &str = "\
link set lo up
address add 10.77.0.2/24 dev neighbour
link set neighbour up
route add 0.0.0.0/0 via 10.77.0.1
";

/// One rule, as any guide to NAT has it.
const RULES: &str = "\
table ip neighbour {
    chain out {
        type nat hook postrouting priority srcnat
        ip saddr 10.77.0.2 masquerade
    }
}
";

/// A namespace whose way to the internet is the host's NAT. There is one for each internet.
#[derive(Debug)]
pub struct Neighbour(OwnedFd);

impl Neighbour {
    /// Makes one beside this host.
    ///
    /// # Errors
    ///
    /// [`InternetError::NotPossible`] where `ip` or `nft` is missing or refuses.
    pub fn new(internet: &Internet) -> Result<Self, InternetError> {
        let namespace = wires::namespace()?;
        let peer = namespace.as_fd();
        internet.as_host(|| -> Result<(), InternetError> {
            wires::connect(&Veth { name: "neighbour", peer, macs: [3, 4] })?;
            wires::configure(AT_HOST)?;
            wires::feed("nft", &["-f", "-"], RULES)?;
            let failed = |source| InternetError::Io { doing: "let packets pass", source };
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(failed)
        })??;
        wires::inside(peer, || wires::configure(AT_NEIGHBOUR))??;
        Ok(Self(namespace))
    }

    /// Runs `work` on a thread in it; what it starts is there too.
    ///
    /// # Errors
    ///
    /// When the thread cannot enter the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        wires::inside(self.0.as_fd(), work)
    }
}
