//! The TLS load: clients of a runner that send a real ClientHello and read to the end, and origins that answer
//! it with bytes of the right shape. Neither computes any cryptography, so that the gateway is what is measured.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tidegate_lab::{Lab, Machine};

use crate::cast;
use crate::measure::Load;

/// Clients at once.
pub const CLIENTS: usize = 32;
/// Bytes of the bulk answer.
pub const BULK_BYTES: usize = 256 << 20;
/// Bytes of an origin's first answer: hello and certificates, about.
pub const ANSWER_BYTES: usize = 3_000;
/// Idle tunnels at once. An origin holds as many and lets go of older ones.
pub const TUNNELS: usize = 1_000;
/// Blocking threads an origin of small flows.
const THREADS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);
const STRIDE: usize = 17;
const CHUNK: usize = 256 << 10;

/// Who is visited, and with which first bytes.
#[derive(Debug, Clone)]
pub struct Visit {
    address: SocketAddr,
    hello: Vec<u8>,
}

/// The hello of each name in `indices`, for its own address.
pub fn visits(indices: impl IntoIterator<Item = usize>) -> Result<Vec<Visit>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let visit = |index| {
        let mut hello = Vec::new();
        let name = ServerName::try_from(cast::name(index))?;
        ClientConnection::new(Arc::clone(&config), name)?.write_tls(&mut hello)?;
        Ok(Visit {
            address: cast::address(index),
            hello,
        })
    };
    indices.into_iter().map(visit).collect()
}

/// What an origin does after its answer.
#[derive(Debug, Clone, Copy)]
enum Then {
    Close,
    SendBulk,
    Hold,
}

/// Starts the origins; they serve until the process ends.
pub fn serve(lab: &Lab) -> Result<()> {
    for index in 0..cast::SMALL_ORIGINS {
        start_origin(lab.net(), cast::address(index), Then::Close, THREADS)?;
    }
    start_origin(lab.net(), cast::address(cast::BULK), Then::SendBulk, 1)?;
    start_origin(lab.net(), cast::address(cast::HOLD), Then::Hold, 1)
}

fn start_origin(net: &Machine, address: SocketAddr, then: Then, threads: usize) -> Result<()> {
    let listener = net.enter(|| TcpListener::bind(address))?;
    let listener = Arc::new(listener.with_context(|| format!("can't listen on {address}"))?);
    for _ in 0..threads {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            let (answer, mut held) = (answer(), VecDeque::new());
            while let Ok((stream, _)) = listener.accept() {
                // A client that left early is the client's to count.
                if let Ok(Some(stream)) = converse(stream, &answer, then) {
                    held.push_back(stream);
                    if held.len() > TUNNELS {
                        held.pop_front();
                    }
                }
            }
        });
    }
    Ok(())
}

fn converse(mut stream: TcpStream, answer: &[u8], then: Then) -> std::io::Result<Option<TcpStream>> {
    let mut hello = [0; 4096];
    if stream.read(&mut hello)? == 0 {
        return Ok(None);
    }
    stream.write_all(answer)?;
    match then {
        Then::Close => Ok(None),
        Then::SendBulk => {
            let chunk = vec![0x5a; CHUNK];
            (0..BULK_BYTES / CHUNK)
                .try_for_each(|_| stream.write_all(&chunk))
                .map(|()| None)
        }
        Then::Hold => Ok(Some(stream)),
    }
}

/// A ServerHello record and one of application data, as a TLS 1.3 server's first flight looks from outside.
fn answer() -> Vec<u8> {
    let mut server_hello = vec![3, 3];
    server_hello.extend_from_slice(&[0xa5; 32]);
    server_hello.extend_from_slice(&[0, 0x13, 0x01, 0, 0, 6, 0, 0x2b, 0, 2, 3, 4]);
    let mut message = vec![2, 0, 0, server_hello.len() as u8];
    message.append(&mut server_hello);
    let mut answer = record(22, &message);
    let rest = ANSWER_BYTES - answer.len() - 5;
    answer.append(&mut record(23, &vec![0x5a; rest]));
    answer
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

/// Makes `count` flows from `runner`, [`CLIENTS`] at a time, each read to its end.
pub fn run(runner: &Machine, visits: &[Visit], count: u64) -> Result<Load> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let client = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            break;
        }
        let visit = &visits[number as usize * STRIDE % visits.len()];
        let whole = call(visit).is_ok_and(|bytes| bytes == ANSWER_BYTES);
        done.fetch_add(u64::from(whole), Ordering::Relaxed);
    };
    runner.enter(|| {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(client);
            }
        });
    })?;
    Ok(Load {
        tried: count,
        done: done.into_inner(),
    })
}

/// One flow: connect, hello, read to the end. Returns the bytes read.
fn call(visit: &Visit) -> std::io::Result<usize> {
    let mut stream = open(visit)?;
    let (mut buffer, mut bytes) = ([0; 4096], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

fn open(visit: &Visit) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(visit.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&visit.hello)?;
    Ok(stream)
}

/// One bulk download. `done` of the result is in MiB.
pub fn download(runner: &Machine, visit: &Visit) -> Result<Load> {
    let read = || -> std::io::Result<usize> {
        let mut stream = open(visit)?;
        let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(bytes),
                read => bytes += read,
            }
        }
    };
    let bytes = runner.enter(read)??;
    ensure!(
        bytes == BULK_BYTES + ANSWER_BYTES,
        "the download ended after {bytes} bytes"
    );
    Ok(Load {
        tried: (BULK_BYTES >> 20) as u64,
        done: (BULK_BYTES >> 20) as u64,
    })
}

/// Opens [`TUNNELS`], each of which has carried a hello and its answer, and leaves them idle.
pub fn hold(runner: &Machine, visit: &Visit) -> Result<Vec<TcpStream>> {
    let tunnel = || -> std::io::Result<TcpStream> {
        let mut stream = open(visit)?;
        stream.read_exact(&mut [0; ANSWER_BYTES])?;
        Ok(stream)
    };
    let tunnels = runner.enter(|| {
        (0..TUNNELS)
            .map(|_| tunnel())
            .collect::<std::io::Result<Vec<_>>>()
    })?;
    tunnels.context("can't open idle tunnels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_names_its_host_and_fits_one_segment() {
        let visits = visits([7]).expect("hellos are made");
        let hello = &visits[0].hello;
        println!("{} bytes", hello.len());
        assert!(hello.windows(20).any(|part| part == cast::name(7).as_bytes()));
        assert!(
            hello.starts_with(&[22, 3, 1]) && hello.len() < 1_400,
            "{} bytes",
            hello.len()
        );
    }

    #[test]
    fn an_answer_is_two_records_of_the_announced_length() {
        let answer = answer();
        assert_eq!(answer.len(), ANSWER_BYTES);
        let first = usize::from(u16::from_be_bytes([answer[3], answer[4]])) + 5;
        let second = usize::from(u16::from_be_bytes([answer[first + 3], answer[first + 4]])) + 5;
        assert_eq!((answer[0], answer[first], first + second), (22, 23, ANSWER_BYTES));
    }
}
