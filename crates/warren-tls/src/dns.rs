//! Questions to name servers: what a name says now, to whoever asks the servers of its zone.
//!
//! Answers come over the network without proof. What is concluded from them is what an authority
//! would conclude that asks the same servers.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use tokio::time::{Instant, sleep};
/// Who is asked first.
pub use warren_dns::Servers as Resolvers;
use warren_dns::{PORT, Patience};

pub mod hook;

pub mod provider;

/// How long one server may take for one answer.
const PATIENCE: Patience = Patience { udp: Duration::from_secs(4), tcp: Duration::from_secs(4) };
/// How many servers are asked of those there are.
const MOST_SERVERS: usize = 8;
/// How many names may lead from one to the other.
const MOST_LINKS: usize = 8;
/// How long is waited between two looks whether all servers know.
const BETWEEN: Duration = Duration::from_secs(2);

/// A name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no name.
    #[error("`{name}` is no name of a host")]
    Name {
        /// Which.
        name: String,
    },
    /// No server gave an answer.
    #[error("no name server gave an answer about {name}")]
    NoAnswer {
        /// About which name.
        name: String,
        /// What the last one said.
        #[source]
        source: io::Error,
    },
    /// The servers of the zone do not say it, or not all of them.
    #[error("{name} does not say {value} at {server} yet, after {} s", after.as_secs())]
    Missing {
        /// The name.
        name: String,
        /// What it should say.
        value: String,
        /// Where.
        server: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
}

/// Asks name servers.
#[derive(Clone, Debug)]
pub struct Lookup {
    resolvers: Resolvers,
    port: u16,
}

impl Lookup {
    /// Asks these resolvers, and the servers of zones at port 53.
    #[must_use]
    pub fn new(resolvers: Resolvers) -> Self {
        Self { resolvers, port: PORT }
    }

    /// Asks the servers of zones at another port.
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// What a name says as text, each record whole.
    ///
    /// # Errors
    ///
    /// [`LookupError`]; a name that says nothing is none.
    pub async fn text(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let answers = self.ask(&parse(name)?, RecordType::TXT).await?;
        Ok(answers.iter().filter_map(text_of).collect())
    }

    /// The name that this one stands for, in small letters; itself where it stands for none.
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub async fn target(&self, name: &str) -> Result<String, LookupError> {
        let mut name = parse(name)?;
        for _link in 0..MOST_LINKS {
            let answers = self.ask(&name, RecordType::CNAME).await?;
            let next = answers.into_iter().find_map(|data| match data {
                RData::CNAME(next) => Some(next.0),
                _ => None,
            });
            match next {
                Some(next) => name = next,
                None => break,
            }
        }
        Ok(written(&name))
    }

    /// Waits until all servers of the name's zone say this text.
    ///
    /// # Errors
    ///
    /// [`LookupError`], when that takes longer than `within`.
    pub async fn wait_for(
        &self,
        name: &str,
        value: &str,
        within: Duration,
    ) -> Result<(), LookupError> {
        let until = Instant::now() + within;
        let name = parse(name)?;
        let servers = self.servers_of(&name).await?;
        for server in servers {
            loop {
                let answers = ask_one(server, &name, RecordType::TXT, false).await;
                let says = |answers: &Vec<RData>| {
                    answers.iter().filter_map(text_of).any(|text| text == value)
                };
                if answers.as_ref().is_ok_and(says) {
                    break;
                }
                if Instant::now() >= until {
                    let (name, value) = (written(&name), value.to_owned());
                    return Err(LookupError::Missing { name, value, server, after: within });
                }
                sleep(BETWEEN.min(until.saturating_duration_since(Instant::now()))).await;
            }
        }
        Ok(())
    }

    /// The addresses of the servers that know a name first.
    async fn servers_of(&self, name: &Name) -> Result<Vec<SocketAddr>, LookupError> {
        let mut zone = name.clone();
        let mut found = Vec::new();
        while found.is_empty() && !zone.is_root() {
            let answers = self.ask(&zone, RecordType::NS).await?;
            found = answers.into_iter().filter_map(name_of_server).collect();
            zone = zone.base_name();
        }
        let mut servers = Vec::new();
        for server in found.into_iter().take(MOST_SERVERS) {
            for kind in [RecordType::A, RecordType::AAAA] {
                let answers = self.ask(&server, kind).await.unwrap_or_default();
                let addresses = answers.into_iter().filter_map(address_of);
                servers.extend(addresses.take(1).map(|ip| SocketAddr::new(ip, self.port)));
            }
        }
        // A host without IPv6 cannot ask those that have it alone beside others.
        if servers.iter().any(SocketAddr::is_ipv4) {
            servers.retain(SocketAddr::is_ipv4);
        }
        match servers.is_empty() {
            false => Ok(servers),
            true => {
                let source = io::Error::other("its zone has no servers with addresses");
                Err(LookupError::NoAnswer { name: written(name), source })
            }
        }
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, LookupError> {
        let mut last = io::Error::other("there is no resolver to ask");
        for resolver in self.resolvers.list().await {
            match ask_one(resolver, name, kind, true).await {
                Ok(answers) => return Ok(answers),
                Err(error) => last = error,
            }
        }
        Err(LookupError::NoAnswer { name: written(name), source: last })
    }
}

fn parse(name: &str) -> Result<Name, LookupError> {
    let failed = |_error| LookupError::Name { name: name.to_owned() };
    let mut name = Name::from_ascii(name).map_err(failed)?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

/// A name as everybody writes it, without the dot at its end.
fn written(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

fn text_of(data: &RData) -> Option<String> {
    let RData::TXT(text) = data else { return None };
    Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned())
}

fn name_of_server(data: RData) -> Option<Name> {
    match data {
        RData::NS(name) => Some(name.0),
        _ => None,
    }
}

fn address_of(data: RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// What one server answers. That there is no such name, or nothing of that kind, is an answer.
async fn ask_one(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recursive: bool,
) -> io::Result<Vec<RData>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = recursive;
    let mut asked = Query::query(name.clone(), kind);
    asked.set_query_class(DNSClass::IN);
    query.add_query(asked);
    let answer = warren_dns::ask(server, &query, PATIENCE).await?;
    if answer.metadata.truncation {
        return Err(io::Error::other("it gave a part of its answer alone"));
    }
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {
            Ok(answer.answers.into_iter().map(|record| record.data).collect())
        }
        code => Err(io::Error::other(format!("it refused: {code}"))),
    }
}

/// Text that a name is to say for a while.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TextRecord {
    /// The name, in small letters and without a dot at its end.
    pub name: String,
    /// The text.
    pub value: String,
}

/// A record could not be added or removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operator's program failed.
    #[error(transparent)]
    Hook(#[from] crate::program::RunError),
    /// The provider was not reached.
    #[error("could not ask {provider}")]
    Unreachable {
        /// Which.
        provider: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The provider refused.
    #[error("{provider} answered {status}: {said}")]
    Refused {
        /// Which.
        provider: &'static str,
        /// The status.
        status: u16,
        /// The beginning of its answer.
        said: String,
    },
    /// The provider has no zone for a name.
    #[error("{provider} has no zone for {name} that this token may change")]
    NoZone {
        /// Which.
        provider: &'static str,
        /// The name.
        name: String,
    },
    /// Warren could not go on.
    #[error("the work was given up")]
    Gone,
}

/// Who adds records to a zone and removes them.
#[async_trait::async_trait]
pub trait Records: Send + Sync + fmt::Debug {
    /// Adds a record beside those that there are.
    async fn add(&self, record: &TextRecord) -> Result<(), RecordError>;

    /// Removes it again; one that is gone is no error.
    async fn remove(&self, record: &TextRecord) -> Result<(), RecordError>;
}
