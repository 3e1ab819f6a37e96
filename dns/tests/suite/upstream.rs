//! A fake upstream on loopback: UDP and TCP on one port, programmable answers, a log of every query.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

/// How the upstream treats a name.
#[derive(Clone, Debug, Default)]
pub(crate) enum Behaviour {
    /// By its records.
    #[default]
    Answer,
    /// Not at all.
    Silence,
    /// With this code and nothing else.
    Code(ResponseCode),
    /// Over UDP with TC only.
    TruncateUdp,
    /// With these bytes behind the id.
    Raw(Vec<u8>),
    /// By its records, but with another question.
    OtherQuestion,
    /// By its records, but with the question in lower case, as some servers do.
    LowerCase,
}

/// A query as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message: Message,
    pub(crate) tcp: bool,
    pub(crate) source: SocketAddr,
}

impl Seen {
    pub(crate) fn name(&self) -> String {
        self.message.queries[0].name().to_lowercase().to_ascii()
    }
}

#[derive(Default)]
struct State {
    records: HashMap<String, Vec<(u32, RData)>>,
    behaviours: HashMap<String, Behaviour>,
    log: Vec<Seen>,
    down: bool,
}

/// The upstream. Dropping it ends its tasks with the runtime.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    open: watch::Sender<bool>,
    /// Grows when all connections are to be closed.
    generation: watch::Sender<u32>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        // The same port for both transports: UDP first, and again when TCP's is taken.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        Self::on(udp, tcp)
    }

    /// A server on an address of a namespace of one's own.
    pub(crate) async fn start_at(address: &str) -> Self {
        Self::on(
            UdpSocket::bind(address).await.unwrap(),
            TcpListener::bind(address).await.unwrap(),
        )
    }

    fn on(udp: UdpSocket, tcp: TcpListener) -> Self {
        let (open, _) = watch::channel(true);
        let this = Self {
            address: udp.local_addr().unwrap(),
            state: Arc::default(),
            open,
            generation: watch::channel(0).0,
        };
        tokio::spawn(this.clone().serve_udp(udp));
        tokio::spawn(this.clone().serve_tcp(tcp));
        this
    }

    /// Records of a name: `[TTL] TYPE RDATA` each.
    pub(crate) fn set(&self, name: &str, lines: &[&str]) {
        let records = lines.iter().map(|line| {
            let mut words = line.splitn(3, ' ');
            let first = words.next().unwrap();
            let (ttl, kind) = match first.parse() {
                Ok(ttl) => (ttl, words.next().unwrap()),
                Err(_) => (300, first),
            };
            let rest: Vec<&str> = words.collect();
            let kind = RecordType::from_str(kind).unwrap();
            (ttl, RData::try_from_str(kind, &rest.join(" ")).unwrap())
        });
        self.state
            .lock()
            .records
            .insert(format!("{name}."), records.collect());
    }

    pub(crate) fn set_data(&self, name: &str, data: RData) {
        self.state
            .lock()
            .records
            .entry(format!("{name}."))
            .or_default()
            .push((300, data));
    }

    pub(crate) fn behave(&self, name: &str, behaviour: Behaviour) {
        self.state.lock().behaviours.insert(format!("{name}."), behaviour);
    }

    /// A server that is down answers nothing and closes connections.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// Holds all answers back until `release`.
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }

    /// Closes every TCP connection.
    pub(crate) fn close_connections(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(crate) fn log(&self) -> Vec<Seen> {
        self.state.lock().log.clone()
    }

    pub(crate) fn asked(&self, name: &str) -> Vec<Seen> {
        let name = format!("{name}.");
        self.log()
            .into_iter()
            .filter(|seen| seen.name() == name)
            .collect()
    }

    /// One query's answer.
    pub(crate) async fn answer(&self, bytes: &[u8], tcp: bool, source: SocketAddr) -> Option<Vec<u8>> {
        let message = Message::from_vec(bytes).unwrap();
        let id = message.metadata.id;
        let reply = {
            let mut state = self.state.lock();
            state.log.push(Seen {
                message: message.clone(),
                tcp,
                source,
            });
            if state.down {
                return None;
            }
            state.reply(&message, tcp)
        };
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
        let mut reply = reply?;
        reply[..2].copy_from_slice(&id.to_be_bytes());
        Some(reply)
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; 4096];
        loop {
            let Ok((length, source)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let (this, socket, query) = (self.clone(), Arc::clone(&socket), buffer[..length].to_vec());
            tokio::spawn(async move {
                if let Some(reply) = this.answer(&query, false, source).await {
                    let _gone = socket.send_to(&reply, source).await;
                }
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        loop {
            let (mut stream, source) = listener.accept().await.unwrap();
            if self.state.lock().down {
                continue;
            }
            let this = self.clone();
            let mut closing = self.generation.subscribe();
            tokio::spawn(async move {
                loop {
                    let length = tokio::select! {
                        length = stream.read_u16() => length,
                        _ = closing.changed() => return,
                    };
                    let Ok(length) = length else { return };
                    let mut query = vec![0; length.into()];
                    if stream.read_exact(&mut query).await.is_err() {
                        return;
                    }
                    let Some(reply) = this.answer(&query, true, source).await else {
                        return;
                    };
                    stream.write_u16(reply.len() as u16).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            });
        }
    }
}

impl State {
    fn reply(&self, query: &Message, tcp: bool) -> Option<Vec<u8>> {
        let question = query.queries[0].clone();
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_available = true;
        reply.metadata.authentic_data = true;
        reply.add_query(question.clone());
        reply.set_edns(Edns::new());
        let asked = question.name().to_lowercase().to_ascii();
        match self.behaviours.get(&asked).cloned().unwrap_or_default() {
            Behaviour::Silence => return None,
            Behaviour::Code(code) => {
                reply.metadata.response_code = code;
                return Some(reply.to_vec().unwrap());
            }
            Behaviour::TruncateUdp if !tcp => {
                reply.metadata.truncation = true;
                return Some(reply.to_vec().unwrap());
            }
            Behaviour::Raw(bytes) => return Some([&[0, 0][..], &bytes].concat()),
            Behaviour::OtherQuestion => {
                reply.queries[0].set_name(Name::from_ascii("other.test.").unwrap());
            }
            Behaviour::LowerCase => {
                let lower = question.name().to_lowercase();
                reply.queries[0].set_name(lower);
            }
            Behaviour::Answer | Behaviour::TruncateUdp => {}
        }
        self.fill(&mut reply, question.name(), question.query_type());
        let whole = reply.to_vec().unwrap();
        let fits = tcp || whole.len() <= usize::from(query.max_payload());
        Some(if fits {
            whole
        } else {
            reply.truncate().to_vec().unwrap()
        })
    }

    fn fill(&self, reply: &mut Message, asked: &Name, kind: RecordType) {
        let mut name = asked.clone();
        for _ in 0..8 {
            let Some(records) = self.records.get(&name.to_lowercase().to_ascii()) else {
                reply.metadata.response_code = ResponseCode::NXDomain;
                break;
            };
            let all = |wanted: &dyn Fn(&RData) -> bool| -> Vec<Record> {
                let chosen = records.iter().filter(|(_, data)| wanted(data));
                chosen
                    .map(|(ttl, data)| Record::from_rdata(name.clone(), *ttl, data.clone()))
                    .collect()
            };
            let signs = |data: &RData| {
                matches!(data, RData::Unknown { code: RecordType::RRSIG, rdata }
                    if rdata.anything.starts_with(&u16::from(kind).to_be_bytes()))
            };
            let found = all(&|data| data.record_type() == kind || kind == RecordType::ANY || signs(data));
            if !found.is_empty() {
                for record in found {
                    reply.add_answer(record);
                }
                return;
            }
            let aliases = all(&|data| matches!(data, RData::CNAME(_)));
            let Some(alias) = aliases.into_iter().next() else {
                break;
            };
            let RData::CNAME(target) = &alias.data else {
                unreachable!()
            };
            name = target.0.clone();
            reply.add_answer(alias);
        }
        let host = Name::from_ascii("ns.test.").unwrap();
        let soa = SOA::new(host.clone(), host, 1, 3600, 600, 86_400, 60);
        reply.add_authority(Record::from_rdata(
            Name::from_ascii("test.").unwrap(),
            120,
            RData::SOA(soa),
        ));
    }
}

/// Waits until `condition` gives something, and names `what` when it never does.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
