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
use crate::testing::{PATIENCE, is_reset, read_all, read_exactly, stream, until};

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
    let other = other.unwrap().0;
    // As the gateway's listeners have it.
    socket2::SockRef::from(&other)
        .set_out_of_band_inline(true)
        .unwrap();
    (one.unwrap(), other)
}

async fn pair(pipes: usize, idle: Duration, mut watch: impl Inspect + 'static) -> Pair {
    let (client, inner_client) = connected().await;
    let (upstream, inner_upstream) = connected().await;
    let means = Arc::new(Means::new(PipePool::new(pipes, 65_536)));
    let traffic = Arc::new(Traffic::default());
    let (shared, counted) = (Arc::clone(&means), Arc::clone(&traffic));
    let relay = tokio::spawn(async move {
        let (client, upstream) = (Leg::new(stream(inner_client)), Leg::new(stream(inner_upstream)));
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
async fn what_is_bulky_is_spliced_while_there_are_pipes() {
    let pair = passes_both_ways(2).await;
    let (spliced, copied) = (pair.means.moved(Path::Splice), pair.means.moved(Path::Copy));
    assert_eq!(spliced + copied, 6 << 20);
    assert!(
        copied < 1 << 20,
        "{copied} bytes were copied, {spliced} spliced: only what comes in small pieces is to be copied"
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

/// Small exchanges never need a pipe, and whoever is idle holds none.
#[tokio::test]
async fn what_is_small_is_copied_and_makes_no_pipe() {
    let mut pair = pair(2, PATIENCE, ()).await;
    for _ in 0..3 {
        pair.client.write_all(b"question").await.unwrap();
        assert_eq!(read_exactly(&mut pair.upstream, 8).await, b"question");
        pair.upstream.write_all(&[7; 3_000]).await.unwrap();
        assert_eq!(read_exactly(&mut pair.client, 3_000).await, [7; 3_000]);
    }
    assert_eq!(
        (pair.means.moved(Path::Splice), pair.means.moved(Path::Copy)),
        (0, 3 * 3_008)
    );
    assert_eq!(pair.means.pool.made(), 0);
}

#[tokio::test]
async fn a_flow_that_was_bulky_holds_no_pipe_when_it_is_idle() {
    let mut pair = pair(1, PATIENCE, ()).await;
    let sent = megabytes();
    let (mut write, mut read) = (pair.client, pair.upstream);
    let writing = async { write.write_all(&sent).await.unwrap() };
    tokio::join!(writing, read_exactly(&mut read, sent.len()));
    assert!(pair.means.moved(Path::Splice) > 0, "nothing was spliced");
    until(
        || pair.means.pool.take().is_some(),
        || format!("{} pipes made, none free", pair.means.pool.made()),
    )
    .await;
    assert_eq!(pair.means.pool.made(), 1);
    // And it goes on as a small one.
    let spliced = pair.means.moved(Path::Splice);
    write.write_all(b"more").await.unwrap();
    assert_eq!(read_exactly(&mut read, 4).await, b"more");
    pair.client = write;
    assert!(pair.means.moved(Path::Splice) <= spliced + 4);
}

/// A read stops in front of an urgent byte though there is more: what is behind it must not be left lying.
#[tokio::test]
async fn bytes_behind_an_urgent_one_pass_too() {
    let mut pair = pair(2, PATIENCE, ()).await;
    let urgent = socket2::SockRef::from(&pair.client);
    urgent.send(b"before").unwrap();
    urgent.send_out_of_band(b"!").unwrap();
    urgent.send(b"behind").unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 13).await, b"before!behind");
}

#[tokio::test]
async fn bytes_and_an_end_that_come_at_once_pass_in_order() {
    for round in 0..50 {
        let mut pair = pair(2, PATIENCE, ()).await;
        pair.client.write_all(b"question").await.unwrap();
        assert_eq!(read_exactly(&mut pair.upstream, 8).await, b"question");
        pair.upstream.write_all(&[7; 3_000]).await.unwrap();
        pair.upstream.shutdown().await.unwrap();
        assert_eq!(
            read_all(&mut pair.client).await.unwrap(),
            [7; 3_000],
            "round {round}"
        );
        pair.client.write_all(b"bye").await.unwrap();
        pair.client.shutdown().await.unwrap();
        assert_eq!(
            read_all(&mut pair.upstream).await.unwrap(),
            b"bye",
            "round {round}"
        );
        assert!(matches!(ended(pair.relay).await, End::Finished));
    }
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
    drop(Leg::new(stream(pair.client)));
    assert!(is_reset(&mut pair.upstream).await);
    assert!(matches!(ended(pair.relay).await, End::Broken(_)));
}

#[tokio::test]
async fn a_reset_by_the_server_resets_the_client() {
    let mut pair = pair(2, PATIENCE, ()).await;
    drop(Leg::new(stream(pair.upstream)));
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
async fn what_an_inspector_held_back_goes_in_front_of_what_is_carried_after_it() {
    let mut pair = pair(2, PATIENCE, Eight::default()).await;
    pair.client.write_all(b"123x").await.unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 3).await, b"123");
    pair.upstream.write_all(b"down").await.unwrap();
    assert_eq!(read_exactly(&mut pair.client, 4).await, b"down");
    pair.client.write_all(b"5678").await.unwrap();
    assert_eq!(read_exactly(&mut pair.upstream, 5).await, b"5678x");
    let after = megabytes();
    let (mut write, mut read) = (pair.client, pair.upstream);
    let writing = async { write.write_all(&after).await.unwrap() };
    let ((), got) = tokio::join!(writing, read_exactly(&mut read, after.len()));
    assert!(got == after, "bytes changed on the way");
    assert!(pair.means.moved(Path::Splice) > 0, "nothing was spliced");
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
