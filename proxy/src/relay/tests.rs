//! Relays between real sockets: ends, resets, silence, and that bytes went the way that was meant.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::pipes::PipePool;
use super::{Direction, End, Inspect, Look, Means, Path, Relay, Traffic};
use crate::leg::Leg;
use crate::testing::{PATIENCE, is_reset, read_all, read_exactly, until};

/// A relay between two connections whose outer ends a test holds.
struct Pair {
    client: TcpStream,
    upstream: TcpStream,
    means: Arc<Means>,
    traffic: Arc<Traffic>,
    relay: JoinHandle<End>,
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (one.unwrap(), other.unwrap().0)
}

async fn pair(pipes: usize, idle: Duration, mut watch: impl Inspect + 'static) -> Pair {
    let (client, inner_client) = connected().await;
    let (upstream, inner_upstream) = connected().await;
    let means = Arc::new(Means::new(PipePool::new(pipes, 65_536)));
    let traffic = Arc::new(Traffic::default());
    let (shared, counted) = (Arc::clone(&means), Arc::clone(&traffic));
    let relay = tokio::spawn(async move {
        let (client, upstream) = (Leg::new(inner_client), Leg::new(inner_upstream));
        let relay = Relay {
            client: &client,
            upstream: &upstream,
            means: &shared,
            traffic: &counted,
            idle,
        };
        let end = relay.run(Vec::new(), &mut watch).await;
        if matches!(end, End::Finished) {
            client.orderly();
            upstream.orderly();
        }
        end
    });
    Pair {
        client,
        upstream,
        means,
        traffic,
        relay,
    }
}

async fn ended(relay: JoinHandle<End>) -> End {
    tokio::time::timeout(PATIENCE, relay)
        .await
        .expect("the relay goes on")
        .unwrap()
}

/// 3 MiB that no reordering leaves unchanged.
fn megabytes() -> Vec<u8> {
    (0..3_u32 << 18).flat_map(u32::to_le_bytes).collect()
}

async fn passes_both_ways(pipes: usize) -> Pair {
    let mut pair = pair(pipes, PATIENCE, ()).await;
    let sent = megabytes();
    let (mut client_reads, mut client_writes) = pair.client.split();
    let (mut upstream_reads, mut upstream_writes) = pair.upstream.split();
    let up = async {
        client_writes.write_all(&sent).await.unwrap();
        client_writes.shutdown().await.unwrap();
    };
    let down = async {
        upstream_writes.write_all(&sent).await.unwrap();
        upstream_writes.shutdown().await.unwrap();
    };
    let (mut at_upstream, mut at_client) = (Vec::new(), Vec::new());
    let ((), (), up, down) = tokio::join!(
        up,
        down,
        upstream_reads.read_to_end(&mut at_upstream),
        client_reads.read_to_end(&mut at_client)
    );
    up.and(down).unwrap();
    assert!(
        at_upstream == sent && at_client == sent,
        "bytes changed on the way"
    );
    assert_eq!(
        (pair.traffic.up(), pair.traffic.down()),
        (sent.len() as u64, sent.len() as u64)
    );
    pair
}

#[tokio::test]
async fn every_byte_is_spliced_while_there_are_pipes() {
    let pair = passes_both_ways(2).await;
    assert_eq!(
        (pair.means.moved(Path::Splice), pair.means.moved(Path::Copy)),
        (6 << 20, 0)
    );
    assert!(matches!(ended(pair.relay).await, End::Finished));
}

#[tokio::test]
async fn every_byte_is_copied_when_there_are_no_pipes() {
    let pair = passes_both_ways(0).await;
    assert_eq!(
        (pair.means.moved(Path::Splice), pair.means.moved(Path::Copy)),
        (0, 6 << 20)
    );
    assert!(matches!(ended(pair.relay).await, End::Finished));
}

#[tokio::test]
async fn one_pipe_for_two_directions_is_enough() {
    let pair = passes_both_ways(1).await;
    assert!(pair.means.moved(Path::Splice) > 0, "nothing was spliced");
    assert_eq!(
        pair.means.moved(Path::Splice) + pair.means.moved(Path::Copy),
        6 << 20
    );
}

#[tokio::test]
async fn a_half_close_passes_and_the_other_half_goes_on() {
    let mut pair = pair(2, PATIENCE, ()).await;
    pair.client.write_all(b"question").await.unwrap();
    pair.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut pair.upstream).await.unwrap(), b"question");
    pair.upstream.write_all(b"answer").await.unwrap();
    assert_eq!(read_exactly(&mut pair.client, 6).await, b"answer");
    assert!(!pair.relay.is_finished());
    pair.upstream.shutdown().await.unwrap();
    assert!(read_all(&mut pair.client).await.unwrap().is_empty());
    assert!(matches!(ended(pair.relay).await, End::Finished));
}

#[tokio::test]
async fn a_reset_by_the_client_resets_the_server() {
    let mut pair = pair(2, PATIENCE, ()).await;
    drop(Leg::new(pair.client));
    assert!(is_reset(&mut pair.upstream).await);
    assert!(matches!(ended(pair.relay).await, End::Broken(_)));
}

#[tokio::test]
async fn a_reset_by_the_server_resets_the_client() {
    let mut pair = pair(2, PATIENCE, ()).await;
    drop(Leg::new(pair.upstream));
    assert!(is_reset(&mut pair.client).await);
    assert!(matches!(ended(pair.relay).await, End::Broken(_)));
}

#[tokio::test]
async fn silence_ends_a_relay_and_traffic_keeps_it() {
    let idle = Duration::from_millis(400);
    let mut pair = pair(2, idle, ()).await;
    // Longer than the timeout in all, never silent for as long.
    for _ in 0..8 {
        pair.client.write_all(b".").await.unwrap();
        assert_eq!(read_exactly(&mut pair.upstream, 1).await, b".");
        tokio::time::sleep(idle / 8).await;
    }
    assert!(!pair.relay.is_finished());
    assert!(is_reset(&mut pair.client).await);
    assert!(matches!(ended(pair.relay).await, End::Idle));
}

/// Sees 8 bytes of the client; holds back an `x` until then.
#[derive(Default)]
struct Eight {
    seen: usize,
    held: Vec<u8>,
}

impl Inspect for Eight {
    fn look(&mut self, direction: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        if direction == Direction::Down {
            pass.extend_from_slice(bytes);
            return Look::More;
        }
        if bytes.contains(&b'!') {
            return Look::Stop;
        }
        let (held, passed): (Vec<u8>, Vec<u8>) = bytes.iter().partition(|byte| **byte == b'x');
        self.held.extend(held);
        pass.extend(passed);
        self.seen += bytes.len();
        if self.seen < 8 { Look::More } else { Look::Enough }
    }

    fn release(&mut self, direction: Direction) -> Vec<u8> {
        if direction == Direction::Up {
            std::mem::take(&mut self.held)
        } else {
            Vec::new()
        }
    }
}

#[tokio::test]
async fn what_an_inspector_held_back_goes_in_front_of_what_is_spliced_after_it() {
    let mut pair = pair(2, PATIENCE, Eight::default()).await;
    pair.client.write_all(b"123x").await.unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 3).await, b"123");
    pair.upstream.write_all(b"down").await.unwrap();
    assert_eq!(read_exactly(&mut pair.client, 4).await, b"down");
    pair.client.write_all(b"5678").await.unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 5).await, b"5678x");
    pair.client.write_all(b"after").await.unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 5).await, b"after");
    until(
        || pair.means.moved(Path::Splice) == 5,
        || format!("{} spliced", pair.means.moved(Path::Splice)),
    )
    .await;
}

#[tokio::test]
async fn what_an_inspector_stops_never_passes() {
    let mut pair = pair(2, PATIENCE, Eight::default()).await;
    pair.client.write_all(b"1!").await.unwrap();
    assert!(is_reset(&mut pair.client).await);
    assert!(matches!(ended(pair.relay).await, End::Stopped));
    assert!(
        is_reset(&mut pair.upstream).await,
        "and nothing was read before it"
    );
}
