//! The internet as one value.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    Seen, Zone,
    authority::Authority,
    proxies, streams, web,
    wires::{self, Wires},
    zone,
};

/// A small internet with its servers, and a host that is connected to it. Dropping it ends it;
/// what somebody started on the host loses its network then and is not ended.
#[derive(Debug)]
pub struct Internet {
    wires: Wires,
    parts: Parts,
    /// Dropped to end the servers.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the servers share with the test.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) zone: Zone,
    pub(crate) seen: Seen,
    pub(crate) authority: Arc<Authority>,
}

/// There is no internet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InternetError {
    /// This machine cannot have one, which is no failure of a test.
    #[error("no network namespaces with addresses can be made: {0}")]
    NotPossible(String),
    /// It could, and something failed on the way.
    #[error("could not {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("could not make the authority of the internet")]
    Authority(#[source] rcgen::Error),
}

impl From<io::Error> for InternetError {
    fn from(source: io::Error) -> Self {
        Self::Io { doing: "enter a network namespace", source }
    }
}

impl Internet {
    /// Makes the namespaces and starts all servers; they listen when this returns.
    ///
    /// # Errors
    ///
    /// [`InternetError::NotPossible`] for who is not root and where a program is missing, which is
    /// no failure of a test.
    pub fn start() -> Result<Self, InternetError> {
        let wires = wires::make()?;
        let authority = Authority::new().map_err(InternetError::Authority)?;
        let parts =
            Parts { zone: Zone::default(), seen: Seen::default(), authority: Arc::new(authority) };
        let place = wires.internet.try_clone()?;
        let (listening, told) = mpsc::channel();
        let (running, ended) = oneshot::channel();
        let shared = parts.clone();
        let thread = thread::Builder::new().name("internet".to_owned()).spawn(move || {
            let served = warren_sys::netns::enter(place.as_fd())
                .and_then(|()| serve(&shared, &listening, ended));
            // Nobody waits any more where the servers did listen.
            drop(served.map_err(|error| listening.send(Err(error))));
        })?;
        let internet = Self { wires, parts, running: Some(running), thread: Some(thread) };
        let failed = |source| InternetError::Io { doing: "start the servers", source };
        let told = told.recv().map_err(|_gone| failed(io::Error::other("they ended")))?;
        told.map_err(failed)?;
        Ok(internet)
    }

    /// Runs `work` on a thread of the host; processes that it starts are on the host too.
    ///
    /// # Errors
    ///
    /// When the thread cannot enter the host's namespace.
    pub fn as_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        wires::inside(self.wires.host.as_fd(), work)
    }

    /// Runs `work` on a thread of a machine on the internet, which has every address there.
    ///
    /// # Errors
    ///
    /// When the thread cannot enter that namespace.
    pub fn as_stranger<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        wires::inside(self.wires.internet.as_fd(), work)
    }

    /// The names.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.parts.zone
    }

    /// What has arrived.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.parts.seen
    }

    /// The certificate that clients trust who are to trust the servers, in PEM.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        self.parts.authority.pem()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

/// All servers until `ended`. The calling thread is in the internet's namespace, and nothing runs
/// on another.
fn serve(
    parts: &Parts,
    listening: &mpsc::Sender<io::Result<()>>,
    ended: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        zone::serve(&mut tasks, &parts.zone).await?;
        web::serve(&mut tasks, parts).await?;
        streams::serve(&mut tasks).await?;
        proxies::serve(&mut tasks, parts).await?;
        // Whoever started this may have given up.
        drop(listening.send(Ok(())));
        drop(ended.await);
        Ok(())
    })
}

/// The addresses on which UDP is served.
pub(crate) fn udp_addresses() -> impl Iterator<Item = IpAddr> {
    let four = (1..=9).map(wires::site).chain([
        wires::NAME_SERVER,
        wires::OTHER_NAME_SERVER,
        wires::ROUTER,
        wires::METADATA,
        wires::PRIVATE[0],
        wires::PRIVATE[1],
    ]);
    let near = [wires::ROUTER_6, wires::PRIVATE_6, wires::METADATA_6];
    let six = (1..=9).map(wires::site_6).chain([wires::site_6(53)]).chain(near);
    four.map(IpAddr::V4).chain(six.map(IpAddr::V6))
}

/// Listens on this port of every address, and does `serve` with every connection.
pub(crate) async fn listen<F>(
    tasks: &mut JoinSet<()>,
    port: u16,
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = tokio::net::TcpListener::bind(everywhere).await?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _peer)) = listener.accept().await {
            // Those that have ended are forgotten.
            while connections.try_join_next().is_some() {}
            connections.spawn(serve(stream));
        }
    });
    Ok(())
}

/// An address as people write it: one of IPv4 that came over a socket of both is one of IPv4.
pub(crate) fn plain(address: io::Result<SocketAddr>) -> Option<SocketAddr> {
    address.ok().map(|it| SocketAddr::new(it.ip().to_canonical(), it.port()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpStream, UdpSocket},
        time::Duration,
    };

    use hickory_proto::{
        op::{Message, Query},
        rr::{Name, RecordType},
    };

    use super::*;
    use crate::{HOST, HOST_6, METADATA, NAME_SERVER, PRIVATE, port, site, site_6};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn started() -> Option<Internet> {
        match Internet::start() {
            Err(InternetError::NotPossible(why)) => {
                println!("SKIPPED: {why}");
                None
            }
            other => Some(other.unwrap()),
        }
    }

    fn connect(address: impl Into<IpAddr>, port: u16) -> TcpStream {
        let stream = TcpStream::connect_timeout(&(address.into(), port).into(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn who(address: impl Into<IpAddr>) -> String {
        let mut said = String::new();
        connect(address, port::WHO).read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn every_address_is_reached_from_the_host_also_with_another_internet_beside() {
        let (Some(first), Some(second)) = (started(), started()) else { return };
        for internet in [&first, &second] {
            internet
                .as_host(|| {
                    let private = [site(1), site(200), PRIVATE[0], PRIVATE[1], METADATA];
                    for address in private {
                        assert_eq!(who(address), format!("{HOST} {address}\n"));
                    }
                    let address = site_6(3);
                    assert_eq!(who(address), format!("{HOST_6} {address}\n"));
                })
                .unwrap();
        }
    }

    #[test]
    fn a_neighbour_is_behind_the_hosts_nat() {
        let Some(internet) = started() else { return };
        let neighbour = match crate::Neighbour::new(&internet) {
            Err(InternetError::NotPossible(why)) => return println!("SKIPPED: {why}"),
            other => other.unwrap(),
        };
        let said = neighbour.inside(|| who(site(1)));
        assert_eq!(said.unwrap(), format!("{HOST} {}\n", site(1)));
    }

    #[test]
    fn datagrams_come_back_from_the_address_they_went_to() {
        let Some(internet) = started() else { return };
        let answers = internet.as_host(|| {
            [IpAddr::from(site(2)), site_6(2).into()].map(|address| {
                let any: IpAddr = match address {
                    IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.connect((address, port::ECHO)).unwrap();
                // More than one packet takes.
                socket.send(&[7; 4000]).unwrap();
                socket.recv(&mut [0; 5000]).unwrap()
            })
        });
        assert_eq!(answers.unwrap(), [4000, 4000]);
    }

    fn ask(name: &str) -> Vec<IpAddr> {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((NAME_SERVER, port::NAMES)).unwrap();
        socket.send(&query.to_vec().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
    }

    #[test]
    fn names_stand_for_what_the_test_says() {
        let Some(internet) = started() else { return };
        let zone = internet.zone();
        zone.alias("other.example", "two.example");
        zone.in_turn("turns.example", &[&[site(1).into()], &[METADATA.into()]], 1);
        let names = ["one.example.", "other.example.", "turns.example.", "turns.example.", "no."];
        let answers = internet.as_host(|| names.map(ask)).unwrap();
        let expected: [Vec<IpAddr>; 5] = [
            vec![site(1).into()],
            vec![site(2).into()],
            vec![site(1).into()],
            vec![METADATA.into()],
            Vec::new(),
        ];
        assert_eq!(answers, expected);
        assert_eq!(zone.asked()[1].name, "other.example");
    }

    #[test]
    fn pages_say_what_they_were_asked() {
        let Some(internet) = started() else { return };
        let said = internet.as_host(|| {
            let mut stream = connect(site(1), port::HTTP);
            let head =
                "GET /x HTTP/1.1\r\nhost: one.example\r\nx-mine: 7\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        });
        assert!(said.unwrap().contains(r#""x-mine":"7""#));
        let [request] = internet.seen().requests().try_into().unwrap();
        assert_eq!((request.target.as_str(), request.header("host")), ("/x", Some("one.example")));
        assert_eq!(request.local.unwrap().ip(), site(1));
    }
}
