//! DNS as tests speak it: `dig`'s output read into fields, and messages made by hand for what no tool sends.
//!
//! Owns no expectation. Hand-made messages go out from inside a machine of the lab; what comes back is looked
//! at only as far as tests ask.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tidegate_lab::{Lab, Machine};

/// Longest wait for an answer: above the resolver's own bound of 4.5 s.
const ANSWER: Duration = Duration::from_secs(8);
/// Id of the query that ends an exchange over UDP.
const SENTINEL: u16 = 0xfffe;

/// What `dig` printed, by parts.
#[derive(Debug, Clone)]
pub struct Dig {
    /// `NOERROR`, `NXDOMAIN` …; empty without an answer.
    pub status: String,
    /// Header flags, e.g. `qr`, `rd`, `ad`.
    pub flags: Vec<String>,
    /// Records of the answer, fields separated by one space.
    pub answer: Vec<String>,
    /// Records of the authority section.
    pub authority: Vec<String>,
    /// The extended error, e.g. `15 (Blocked): (…)`.
    pub error: Option<String>,
    /// Everything printed, for messages.
    pub text: String,
}

impl Dig {
    /// The data of the answer's records, in order.
    pub fn data(&self) -> Vec<&str> {
        self.answer
            .iter()
            .filter_map(|record| record.splitn(5, ' ').nth(4))
            .collect()
    }

    /// True for NOERROR without an answer.
    pub fn is_no_data(&self) -> bool {
        self.status == "NOERROR" && self.answer.is_empty()
    }

    /// True for NXDOMAIN with the extended error 15 (Blocked).
    pub fn is_blocked(&self) -> bool {
        self.status == "NXDOMAIN"
            && self
                .error
                .as_ref()
                .is_some_and(|error| error.starts_with("15 (Blocked)"))
    }

    fn read(text: String) -> Self {
        let mut dig = Self {
            status: String::new(),
            flags: Vec::new(),
            answer: Vec::new(),
            authority: Vec::new(),
            error: None,
            text: text.clone(),
        };
        let mut section = "";
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("status: ") {
                rest.split(',')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut dig.status);
            } else if let Some(rest) = line.strip_prefix(";; flags: ") {
                let flags = rest.split(';').next().unwrap_or_default();
                dig.flags = flags.split_whitespace().map(str::to_owned).collect();
            } else if let Some(rest) = line.strip_prefix("; EDE: ") {
                dig.error = Some(rest.to_owned());
            } else if let Some(name) = line
                .strip_prefix(";; ")
                .and_then(|line| line.strip_suffix(" SECTION:"))
            {
                section = name;
            } else if !line.starts_with(';') && !line.trim().is_empty() {
                let record = line.split_whitespace().collect::<Vec<_>>().join(" ");
                match section {
                    "ANSWER" => dig.answer.push(record),
                    "AUTHORITY" => dig.authority.push(record),
                    _ => {}
                }
            }
        }
        dig
    }
}

impl std::fmt::Display for Dig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Asks with `dig` from runner 0: one try, through its own resolver unless `@SERVER` says otherwise.
pub async fn dig(lab: &Lab, args: &[&str]) -> Dig {
    dig_on(lab, 0, args).await
}

/// The same from another runner of the first network.
pub async fn dig_on(lab: &Lab, runner: usize, args: &[&str]) -> Dig {
    dig_at(lab.runner(runner), args).await
}

/// The same from any machine.
pub async fn dig_at(machine: &Machine, args: &[&str]) -> Dig {
    let shown = [
        "+tries=1",
        "+time=6",
        "+noall",
        "+comments",
        "+answer",
        "+authority",
    ];
    let output = machine
        .command("dig")
        .args(shown)
        .args(args)
        .run()
        .await
        .expect("dig starts");
    Dig::read(output.text())
}

/// A name of wire labels, with its root.
pub fn name(labels: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for label in labels {
        out.push(u8::try_from(label.len()).expect("a label's length"));
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}

/// A name as people write it.
pub fn plain_name(text: &str) -> Vec<u8> {
    name(
        &text
            .split('.')
            .filter(|label| !label.is_empty())
            .map(str::as_bytes)
            .collect::<Vec<_>>(),
    )
}

/// A question of class IN.
pub fn question(name: &[u8], qtype: u16) -> Vec<u8> {
    question_of(name, qtype, 1)
}

/// A question of any class.
pub fn question_of(name: &[u8], qtype: u16, qclass: u16) -> Vec<u8> {
    [name, &qtype.to_be_bytes(), &qclass.to_be_bytes()].concat()
}

/// A message: header with the four counts, then whatever follows it.
pub fn message(id: u16, flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut out = [id.to_be_bytes(), flags.to_be_bytes()].concat();
    for count in counts {
        out.extend(count.to_be_bytes());
    }
    out.extend_from_slice(body);
    out
}

/// A query with RD for a name as people write it.
pub fn query(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    message(id, 0x0100, [1, 0, 0, 0], &question(&plain_name(name), qtype))
}

/// A message as a stream carries it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a message's length");
    [&length.to_be_bytes(), message].concat()
}

/// An answer's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    fn word(&self, at: usize) -> u16 {
        self.0
            .get(at..at + 2)
            .map_or(0, |word| u16::from_be_bytes([word[0], word[1]]))
    }

    /// The message's id.
    pub fn id(&self) -> u16 {
        self.word(0)
    }

    /// The header's lower four bits of the response code.
    pub fn rcode(&self) -> u16 {
        self.word(2) & 0xf
    }

    /// The TC bit.
    pub fn is_truncated(&self) -> bool {
        self.word(2) & 0x0200 != 0
    }

    /// The AD bit.
    pub fn is_authentic(&self) -> bool {
        self.word(2) & 0x0020 != 0
    }

    /// How many records the answer section claims.
    pub fn answers(&self) -> u16 {
        self.word(6)
    }
}

/// Sends datagrams from one socket and gives back what was answered before the answer to a last query, which
/// the gateway answers by itself: silence is what has no answer by then. What an upstream must be asked for
/// may come later; ask that with `dig`.
pub fn over_udp(machine: &Machine, server: &str, messages: &[Vec<u8>]) -> Vec<Reply> {
    let server: SocketAddr = server.parse().expect("an address with a port");
    let exchange = move || {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a socket");
        socket.connect(server).expect("a route");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        for message in messages {
            socket.send(message).expect("sent");
        }
        socket.send(&query(SENTINEL, "localhost", 1)).expect("sent");
        let (mut replies, mut buffer) = (Vec::new(), vec![0; 65_535]);
        loop {
            let length = socket.recv(&mut buffer).expect("an answer to the last query");
            let reply = Reply(buffer[..length].to_vec());
            if reply.id() == SENTINEL {
                return replies;
            }
            replies.push(reply);
        }
    };
    machine.enter(exchange).expect("the machine's namespace")
}

/// Writes pieces to one TCP connection, each as a segment of its own, and reads `count` answers, fewer when
/// the server closes before.
pub fn over_tcp(machine: &Machine, server: &str, pieces: &[Vec<u8>], count: usize) -> Vec<Reply> {
    let server: SocketAddr = server.parse().expect("an address with a port");
    let exchange = move || {
        let mut stream = TcpStream::connect(server).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        for piece in pieces {
            if stream.write_all(piece).is_err() {
                break;
            }
        }
        let mut replies = Vec::new();
        while replies.len() < count {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                break;
            }
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).expect("a whole answer");
            replies.push(Reply(reply));
        }
        replies
    };
    machine.enter(exchange).expect("the machine's namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digs_sections_are_told_apart() {
        let text = ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NXDOMAIN, id: 1\n;; flags: qr rd ra; \
                    QUERY: 1, ANSWER: 0\n\n;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n\
                    ; EDE: 15 (Blocked): (policy x)\n;; AUTHORITY SECTION:\na.test.\t\t5\tIN\tSOA\tx. y. 1\n";
        let dig = Dig::read(text.to_owned());
        assert!(dig.is_blocked() && dig.answer.is_empty(), "{dig:?}");
        assert_eq!(dig.flags, ["qr", "rd", "ra"]);
        assert_eq!(dig.authority, ["a.test. 5 IN SOA x. y. 1"]);
    }

    #[test]
    fn a_query_is_laid_out_by_rfc1035_4_1() {
        assert_eq!(
            query(7, "a.test", 28),
            b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x1c\x00\x01"
        );
    }
}
