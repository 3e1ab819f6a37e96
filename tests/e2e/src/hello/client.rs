//! A client of one TCP connection that says exactly the bytes it is told. Owns the socket, opened in a
//! machine's namespace and good in any thread after that; never interprets what it says. Blocking, each wait
//! bounded by [`PATIENCE`].

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use tidegate_lab::Machine;

use super::{End, Outcome};
use crate::PATIENCE;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Option<TcpStream>,
    port: u16,
    outcome: Outcome,
}

impl Client {
    /// Connects from a machine, e.g. to `192.0.2.10:443`. A refused connection is an outcome
    /// ([`End::Reset`]), nothing else is.
    #[track_caller]
    pub fn connect(machine: &Machine, to: &str) -> Self {
        let to: SocketAddr = to.parse().expect("an address and a port");
        let connected = machine
            .enter(|| TcpStream::connect_timeout(&to, PATIENCE))
            .expect("the machine is there");
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true).expect("TCP_NODELAY");
                stream.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
                stream.set_write_timeout(Some(PATIENCE)).expect("SO_SNDTIMEO");
                let port = stream.local_addr().map_or(0, |local| local.port());
                Self {
                    stream: Some(stream),
                    port,
                    outcome: Outcome::default(),
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
                ) =>
            {
                Self {
                    stream: None,
                    port: 0,
                    outcome: Outcome {
                        end: End::Reset,
                        ..Outcome::default()
                    },
                }
            }
            Err(error) => panic!("connecting to {to}: {error}"),
        }
    }

    /// Its source port, by which events know it; 0 when it was refused.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says bytes: one `write`, one segment if it fits. A far end that does not want them is an outcome.
    pub fn say(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(stream) = &mut self.stream
            && let Err(error) = stream.write_all(bytes)
        {
            assert!(broken(error.kind()), "writing: {error}");
        }
        self
    }

    /// Says each piece in a segment of its own: the next one leaves when the far machine has acknowledged
    /// the one before, so that they can't be joined on the way.
    pub fn say_apart(&mut self, machine: &Machine, pieces: &[&[u8]]) -> &mut Self {
        for piece in pieces {
            self.say(piece);
            machine
                .enter(|| self.acknowledged())
                .expect("the machine is there");
        }
        self
    }

    /// Closes its direction (FIN) and stays to hear.
    pub fn shut(&mut self) -> &mut Self {
        if let Some(stream) = &self.stream {
            // The far end may have reset it already.
            let _gone = stream.shutdown(Shutdown::Write);
        }
        self
    }

    /// Hears on until `enough`, the end, or [`PATIENCE`] without a byte.
    pub fn hear(&mut self, enough: impl Fn(&Outcome) -> bool) -> &Outcome {
        let mut buffer = [0; 16 << 10];
        while !enough(&self.outcome) && !self.outcome.closed() {
            let Some(stream) = &mut self.stream else { break };
            match stream.read(&mut buffer) {
                Ok(0) => self.outcome.end = End::Closed,
                Ok(read) => self.outcome.received.extend(&buffer[..read]),
                Err(error) if broken(error.kind()) => self.outcome.end = End::Reset,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("reading: {error}"),
            }
        }
        &self.outcome
    }

    /// Hears until a server has answered its hello, or an alert, or the end.
    pub fn hear_answer(&mut self) -> &Outcome {
        self.hear(|outcome| outcome.accepted() || outcome.alert().is_some())
    }

    /// Hears until these words have come, or the end.
    pub fn hear_words(&mut self, words: &str) -> &Outcome {
        self.hear(|outcome| outcome.text().contains(words))
    }

    /// Hears until the far end has closed.
    pub fn hear_all(&mut self) -> &Outcome {
        self.hear(|_| false)
    }

    /// Waits until nothing that was said is still on its way. Linux tells it in `/proc/net/tcp`, which shows
    /// the namespace of the thread that reads it.
    fn acknowledged(&self) {
        let Some(stream) = &self.stream else { return };
        let Ok(local) = stream.local_addr() else { return };
        let table = if local.is_ipv4() {
            "/proc/thread-self/net/tcp"
        } else {
            "/proc/thread-self/net/tcp6"
        };
        let own = format!(":{:04X}", local.port());
        for _ in 0..PATIENCE.as_millis() {
            let rows = std::fs::read_to_string(table).expect("the kernel's table of connections");
            // sl, local, remote, state, tx_queue:rx_queue …
            let mut rows = rows.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            let row = rows.find(|row| row.get(1).is_some_and(|address| address.ends_with(&own)));
            match row.as_ref().and_then(|row| row.get(4)) {
                Some(queues) if !queues.starts_with("00000000:") => {}
                Some(_) | None => return,
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the far machine does not acknowledge what {local} said");
    }
}

const fn broken(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// Connects, says `bytes` at once and hears until the answer, an alert or the end.
#[track_caller]
pub fn send(machine: &Machine, to: &str, bytes: &[u8]) -> Outcome {
    Client::connect(machine, to).say(bytes).hear_answer().clone()
}

/// The same with each piece in a segment of its own.
#[track_caller]
pub fn send_in_pieces(machine: &Machine, to: &str, pieces: &[&[u8]]) -> Outcome {
    Client::connect(machine, to)
        .say_apart(machine, pieces)
        .hear_answer()
        .clone()
}

/// Says `first`, and `second` if the server asks for another hello; hears until the final answer, an alert or
/// the end.
#[track_caller]
pub fn exchange(machine: &Machine, to: &str, first: &[u8], second: &[u8]) -> Outcome {
    let mut client = Client::connect(machine, to);
    client
        .say(first)
        .hear(|outcome| outcome.retried() || outcome.accepted() || outcome.alert().is_some());
    if client.outcome.retried() {
        client.say(second).hear_answer();
    }
    client.outcome
}
