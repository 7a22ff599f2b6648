//! Asking the servers that the host itself asks.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::DNSClass,
};
use tokio::time::{Instant, timeout};
use warren_dns::Patience;

use super::{LARGEST_DATAGRAM, cache::Question};

/// How long a `resolv.conf` that was read is good for.
const FRESH: Duration = Duration::from_secs(2);
/// How long all attempts together may take. A client of the C library gives up after 5 seconds
/// and asks again; it should have an answer before.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How often all servers are asked.
const ROUNDS: u32 = 2;
/// How long a server that answers over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(3);

/// Whom to ask; a file is read again while it changes.
pub use warren_dns::Servers as Upstreams;

/// Asks servers.
#[derive(Debug)]
pub(super) struct Client {
    upstreams: Upstreams,
    /// Our own address: asking ourselves would never end.
    own: IpAddr,
    read: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Client {
    pub(super) fn new(upstreams: Upstreams, own: Ipv4Addr) -> Self {
        Self { upstreams, own: own.into(), read: Mutex::default() }
    }

    /// The first useful answer, or `None` when no server has one in time.
    pub(super) async fn ask(&self, question: &Question) -> Option<Message> {
        timeout(PATIENCE, self.ask_all(question)).await.ok().flatten()
    }

    async fn ask_all(&self, question: &Question) -> Option<Message> {
        let servers = self.servers().await;
        let attempts = u32::try_from(servers.len()).ok()?.checked_mul(ROUNDS)?;
        let patience = PATIENCE.checked_div(attempts)?;
        for _round in 0..ROUNDS {
            for server in &servers {
                let patience = Patience { udp: patience, tcp: TCP_PATIENCE };
                match warren_dns::ask(*server, &query(question), patience).await {
                    Ok(answer) if useful(answer.metadata.response_code) => return Some(answer),
                    Ok(_refused) => {}
                    Err(error) => {
                        tracing::debug!(%server, %error, "a name server did not answer");
                    }
                }
            }
        }
        None
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        if let Upstreams::Fixed(servers) = &self.upstreams {
            return servers.iter().filter(|it| it.ip() != self.own).copied().collect();
        }
        let fresh = {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.as_ref().filter(|(when, _)| when.elapsed() < FRESH).cloned()
        };
        if let Some((_, servers)) = fresh {
            return servers;
        }
        let mut servers = self.upstreams.list().await;
        servers.retain(|server| server.ip() != self.own);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Some((Instant::now(), servers.clone()));
        servers
    }
}

/// Whether an answer is one, and not a server's trouble that another may not have.
fn useful(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

/// The question as a message with a random number of its own.
fn query(question: &Question) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = question.unchecked;
    let mut asked = Query::query(question.name.clone(), question.record_type);
    asked.set_query_class(DNSClass::IN);
    query.add_query(asked);
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(question.dnssec);
    query.set_edns(edns);
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_read_again_and_never_names_ourselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.213.0.1\nnameserver 192.0.2.1\n").unwrap();
        let client = Client::new(Upstreams::File(path.clone()), Ipv4Addr::new(10, 213, 0, 1));
        assert_eq!(client.servers().await, ["192.0.2.1:53".parse::<SocketAddr>().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        *client.read.lock().unwrap() = None; // as after some seconds
        assert_eq!(client.servers().await, ["192.0.2.2:53".parse::<SocketAddr>().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        *client.read.lock().unwrap() = None;
        assert_eq!(client.servers().await, ["127.0.0.1:53".parse::<SocketAddr>().unwrap()]);
    }
}
