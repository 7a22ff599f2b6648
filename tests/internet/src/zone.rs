//! Names and what they stand for, changed at any time.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::{internet, port, site, site_6};

/// How long answers live where nobody says otherwise, in seconds.
const LIFE: u32 = 60;
/// A chain of aliases is followed so far.
const ALIASES: usize = 8;

/// Every name of the internet. `one.example` to `nine.example` are [`site`] 1 to 9 in both
/// families from the beginning, and so are `a.wild.example` (4) and `b.wild.example` (5).
#[derive(Clone, Debug)]
pub struct Zone(Arc<Mutex<Names>>);

/// A question that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name as it was written, without a dot at its end.
    pub name: String,
    /// `A`, `AAAA` and so on.
    pub kind: String,
    /// Which name server was asked.
    pub server: IpAddr,
    /// Whether it came over TCP.
    pub tcp: bool,
}

#[derive(Debug, Default)]
struct Names {
    names: BTreeMap<String, Entry>,
    /// Zones and the names of their servers.
    zones: BTreeMap<String, String>,
    /// Where files say what names say as text.
    texts: Option<PathBuf>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Entry {
    meaning: Meaning,
    life_seconds: u32,
}

#[derive(Debug)]
enum Meaning {
    /// Answers in turn, each to one question for each family; the last stays.
    Addresses { turns: Vec<Vec<IpAddr>>, asked: [usize; 2] },
    /// Another name.
    Alias(String),
}

impl Default for Zone {
    fn default() -> Self {
        let zone = Self(Arc::default());
        let numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        for (word, number) in numbers.iter().zip(1..) {
            zone.set(&format!("{word}.example"), &[site(number).into(), site_6(number).into()]);
        }
        for (name, number) in [("a.wild.example", 4), ("b.wild.example", 5)] {
            zone.set(name, &[site(number).into(), site_6(number).into()]);
        }
        zone
    }
}

impl Zone {
    /// Has a name stand for these addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        self.in_turn(name, &[addresses], LIFE);
    }

    /// Has each question be answered differently, the last answer for ever: how a name is bound
    /// anew. Answers live for so many seconds.
    pub fn in_turn(&self, name: &str, turns: &[&[IpAddr]], life_seconds: u32) {
        let turns = turns.iter().map(|it| it.to_vec()).collect();
        self.put(name, Meaning::Addresses { turns, asked: [0; 2] }, life_seconds);
    }

    /// Has a name stand for another.
    pub fn alias(&self, name: &str, target: &str) {
        self.put(name, Meaning::Alias(target.to_owned()), LIFE);
    }

    /// Has a zone be known by the server of this name, which is [`crate::NAME_SERVER`].
    pub fn serve_zone(&self, zone: &str, server: &str) {
        self.set(server, &[crate::NAME_SERVER.into()]);
        self.with(|names| names.zones.insert(zone.to_owned(), server.to_owned()));
    }

    /// From now on names say as text the lines of the file with their name in this directory.
    pub fn say_texts_of(&self, directory: PathBuf) {
        self.with(|names| names.texts = Some(directory));
    }

    /// Forgets a name.
    pub fn remove(&self, name: &str) {
        self.with(|names| names.names.remove(name));
    }

    /// Every question so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.with(|names| names.asked.clone())
    }

    fn put(&self, name: &str, meaning: Meaning, life_seconds: u32) {
        self.with(|names| names.names.insert(name.to_owned(), Entry { meaning, life_seconds }));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Names) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All addresses of a name, as a proxy finds them.
    pub(crate) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let kinds = [RecordType::A, RecordType::AAAA];
        let answers = |kind| self.with(|names| names.answer(name, kind)).unwrap_or_default();
        let found = kinds.into_iter().flat_map(answers);
        found.filter_map(|(_, _, data)| data.ip_addr()).collect()
    }

    fn reply(&self, message: &[u8], server: IpAddr, tcp: bool) -> Option<Message> {
        let query = Message::from_vec(message).ok()?;
        let question = query.queries.first()?.clone();
        let kind = question.query_type();
        let written = question.name().to_ascii();
        let name = written.trim_end_matches('.').to_owned();
        let found = self.with(|names| {
            names.asked.push(Asked { name: name.clone(), kind: kind.to_string(), server, tcp });
            names.answer(&name.to_ascii_lowercase(), kind)
        });
        let mut answer = query.into_response();
        match found {
            Some(records) => {
                for (owner, life, data) in records {
                    let owner = if owner.eq_ignore_ascii_case(&name) {
                        question.name().clone()
                    } else {
                        Name::from_ascii(format!("{owner}.")).ok()?
                    };
                    answer.add_answer(Record::from_rdata(owner, life, data));
                }
            }
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        Some(answer)
    }
}

impl Names {
    /// The records for a question, each with its owner and how long it lives; none where the name
    /// is none.
    fn answer(&mut self, name: &str, kind: RecordType) -> Option<Vec<(String, u32, RData)>> {
        let (mut name, mut records) = (name.to_owned(), Vec::new());
        for _link in 0..ALIASES {
            let said = self.said(&name, kind);
            if !said.is_empty() {
                records.extend(said.into_iter().map(|data| (name.clone(), LIFE, data)));
                break;
            }
            let entry = self.names.get_mut(&name);
            if entry.is_none() && records.is_empty() {
                return None;
            }
            let Some(entry) = entry else { break };
            let life = entry.life_seconds;
            match &mut entry.meaning {
                Meaning::Alias(target) => {
                    let alias = Name::from_ascii(format!("{target}.")).ok()?;
                    records.push((name.clone(), life, RData::CNAME(CNAME(alias))));
                    name.clone_from(target);
                }
                Meaning::Addresses { turns, asked } => {
                    let addresses = turn(turns, asked, kind);
                    let data = addresses.into_iter().map(|it| (name.clone(), life, record(it)));
                    records.extend(data);
                    break;
                }
            }
        }
        Some(records)
    }
}

impl Names {
    /// What is known of a name beside its addresses.
    fn said(&self, name: &str, kind: RecordType) -> Vec<RData> {
        match kind {
            RecordType::NS => {
                let server =
                    self.zones.get(name).and_then(|it| Name::from_ascii(format!("{it}.")).ok());
                server.into_iter().map(|server| RData::NS(NS(server))).collect()
            }
            RecordType::TXT => {
                let file = self.texts.as_ref().map(|directory| directory.join(name));
                let text = file.and_then(|file| std::fs::read_to_string(file).ok());
                let text = text.unwrap_or_default();
                text.lines().map(|line| RData::TXT(TXT::new(vec![line.to_owned()]))).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The addresses of one family that are due now.
fn turn(turns: &[Vec<IpAddr>], asked: &mut [usize; 2], kind: RecordType) -> Vec<IpAddr> {
    let [four, six] = asked;
    let count = match kind {
        RecordType::A => four,
        RecordType::AAAA => six,
        _ => return Vec::new(),
    };
    let due = turns.get(*count).or_else(|| turns.last()).cloned().unwrap_or_default();
    *count += 1;
    due.into_iter().filter(|it| it.is_ipv4() == (kind == RecordType::A)).collect()
}

fn record(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The name servers.
pub(crate) async fn serve(tasks: &mut JoinSet<()>, zone: &Zone) -> io::Result<()> {
    for address in internet::udp_addresses() {
        let socket = UdpSocket::bind((address, port::NAMES)).await?;
        tasks.spawn(answer_datagrams(socket, address, zone.clone()));
    }
    let zone = zone.clone();
    internet::listen(tasks, port::NAMES, move |stream| {
        let zone = zone.clone();
        async move { drop(answer_stream(stream, &zone).await) } // whoever goes away has its reason
    })
    .await
}

async fn answer_datagrams(socket: UdpSocket, address: IpAddr, zone: Zone) {
    let mut buffer = vec![0; 4096];
    loop {
        // An error is the echo of an answer that nobody took.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let asked = buffer.get(..length).unwrap_or_default();
        let Some(answer) = zone.reply(asked, address, false) else { continue };
        let most = answer.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
        let bytes = answer.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(most));
        if let Some(bytes) = bytes.or_else(|| answer.truncate().to_vec().ok()) {
            drop(socket.send_to(&bytes, peer).await);
        }
    }
}

async fn answer_stream(mut stream: TcpStream, zone: &Zone) -> io::Result<()> {
    let server = internet::plain(stream.local_addr());
    let server = server.map_or(crate::NAME_SERVER.into(), |it| it.ip());
    loop {
        let length = stream.read_u16().await?;
        let mut asked = vec![0; usize::from(length)];
        stream.read_exact(&mut asked).await?;
        let Some(answer) = zone.reply(&asked, server, true) else { return Ok(()) };
        let bytes = answer.to_vec().map_err(io::Error::other)?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    }
}
