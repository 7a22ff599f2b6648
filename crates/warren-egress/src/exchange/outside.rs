//! Where the requests of a connection go.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    gate::Patience,
    io::Stream,
    name::HostName,
    outside::{self, OutsideError},
    passport::Passport,
    trust::{Trust, Versions},
};

/// Where the requests of a connection go.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) destination: SocketAddr,
    pub(crate) passport: Arc<dyn Passport>,
    pub(crate) connect: Duration,
    pub(crate) patience: Patience,
    /// Whether both sides speak HTTP/2.
    pub(crate) h2: bool,
    /// With whom TLS is spoken, where it is.
    pub(crate) tls: Option<Tls>,
}

/// Who the other side must prove to be.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) name: HostName,
    pub(crate) trust: Arc<Trust>,
}

impl Outside {
    /// Connects, and gives whether HTTP/2 is spoken.
    pub(crate) async fn open(
        &self,
        versions: Versions,
    ) -> Result<(Box<dyn Stream>, bool), OutsideError> {
        let name = self.tls.as_ref().map(|tls| &tls.name);
        let passport = &*self.passport;
        let stream = outside::connect(self.destination, name, passport, self.connect).await?;
        let Some(Tls { name, trust }) = &self.tls else {
            return Ok((Box::new(stream), self.h2));
        };
        let (stream, h2) = outside::tls(stream, name, trust, versions, self.connect).await?;
        Ok((Box::new(stream), h2))
    }

    /// The versions of HTTP that this connection has settled on.
    pub(crate) fn versions(&self) -> Versions {
        Versions { h2: self.h2, http1: !self.h2 }
    }
}
