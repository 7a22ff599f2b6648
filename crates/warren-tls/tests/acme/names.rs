//! A server of names on loopback: every name is this machine, and says what files hold.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, NS, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// Serves until it is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    records: PathBuf,
    links: Links,
    _task: JoinSet<()>,
}

type Links = Arc<Mutex<HashMap<String, String>>>;

impl NameServer {
    /// What a name says as text is in the lines of the file of that name in this directory.
    pub(crate) async fn start(records: PathBuf) -> Self {
        std::fs::create_dir(&records).unwrap();
        let (listener, socket) = loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The same port may be somebody's there.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, socket);
            }
        };
        let address = socket.local_addr().unwrap();
        let links = Links::default();
        let mut task = JoinSet::new();
        task.spawn(serve(socket, records.clone(), Arc::clone(&links)));
        task.spawn(serve_tcp(listener, records.clone(), Arc::clone(&links)));
        Self { address, records, links, _task: task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn records(&self) -> &Path {
        &self.records
    }

    /// Lets a name stand for another.
    pub(crate) fn link(&self, name: &str, target: &str) {
        self.links.lock().unwrap().insert(name.to_owned(), target.to_owned());
    }
}

async fn serve(socket: UdpSocket, records: PathBuf, links: Links) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let answer = answer(&query, &records, &links);
        socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
    }
}

/// Authorities ask over TCP.
async fn serve_tcp(listener: TcpListener, records: PathBuf, links: Links) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Ok(length) = stream.read_u16().await {
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            let query = Message::from_vec(&query).unwrap();
            let answer = answer(&query, &records, &links).to_vec().unwrap();
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

fn answer(query: &Message, records: &Path, links: &Links) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = ResponseCode::NoError;
    let Some(question) = query.queries.first() else { return answer };
    answer.add_query(question.clone());
    let mut name = question.name().clone();
    if let Some(target) = links.lock().unwrap().get(&text(&name)) {
        let target = Name::from_ascii(format!("{target}.")).unwrap();
        answer.add_answer(Record::from_rdata(name, 1, RData::CNAME(CNAME(target.clone()))));
        name = target;
    }
    let file = text(&name);
    let mut add = |data| {
        answer.add_answer(Record::from_rdata(name.clone(), 1, data));
    };
    match question.query_type() {
        RecordType::A => add(RData::A(A(Ipv4Addr::LOCALHOST))),
        // Zones have two labels.
        RecordType::NS if file.split('.').count() == 2 => {
            add(RData::NS(NS(Name::from_ascii(format!("ns.{file}.")).unwrap())));
        }
        RecordType::TXT => {
            let lines = std::fs::read_to_string(records.join(file)).unwrap_or_default();
            lines.lines().for_each(|line| add(RData::TXT(TXT::new(vec![line.to_owned()]))));
        }
        _ => {}
    }
    answer
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
