//! System calls that are not made, and what they would have said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::{PIECE, Stream, set_up};
use crate::leg::Leg;
use crate::reactor::Ready;
use crate::testing::until;

/// A connection of the data plane and its peer.
fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_up(&listener).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = crate::sys::accept(&listener).unwrap();
    (Stream::accepted(accepted).unwrap(), peer)
}

async fn knows(stream: &Stream, what: Ready) {
    until(
        || stream.source.known().has(what),
        || format!("{:?} is known", stream.source.known()),
    )
    .await;
}

#[tokio::test]
async fn an_accepted_connection_has_its_listeners_options_and_does_not_block() {
    let (stream, _peer) = pair();
    assert!(stream.socket.nodelay().unwrap());
    let options = socket2::SockRef::from(&stream.socket);
    assert!(options.keepalive().unwrap());
    assert_eq!(options.tcp_keepalive_time().unwrap(), super::KEEPALIVE_AFTER);
    assert_eq!(options.tcp_keepalive_interval().unwrap(), super::KEEPALIVE_EVERY);
    assert!(options.nonblocking().unwrap());
    assert!(!options.tcp_quickack().unwrap(), "an answer acknowledges");
    stream.acknowledge();
    assert!(options.tcp_quickack().unwrap());
}

#[tokio::test]
async fn a_read_that_leaves_room_is_the_last_until_more_comes() {
    let (stream, mut peer) = pair();
    peer.write_all(b"one").unwrap();
    stream.readable().await;
    assert_eq!(stream.try_read(&mut [0; 16]).unwrap(), 3);
    assert!(
        !stream.source.known().has(Ready::READ),
        "another read would find nothing"
    );
    peer.write_all(b"two").unwrap();
    stream.readable().await;
    // A full buffer says nothing of what is left.
    assert_eq!(stream.try_read(&mut [0; 3]).unwrap(), 3);
    assert!(stream.source.known().has(Ready::READ));
    let nothing = stream.try_read(&mut [0; 3]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    assert!(!stream.source.known().has(Ready::READ));
}

#[tokio::test]
async fn an_end_that_was_announced_with_the_last_bytes_needs_no_read() {
    let (stream, mut peer) = pair();
    peer.write_all(b"all").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    knows(&stream, Ready::CLOSED).await;
    assert_eq!(stream.try_read(&mut [0; 16]).unwrap(), 3);
    assert!(stream.source.known().has(Ready::ENDED));
    stream.readable().await;
    assert_eq!(stream.try_read(&mut [0; 16]).unwrap(), 0);
    assert_eq!(stream.try_read(&mut [0; 16]).unwrap(), 0, "and stays so");
}

#[tokio::test]
async fn an_end_behind_more_than_one_read_is_not_told_too_early() {
    let (stream, mut peer) = pair();
    let much: Vec<u8> = std::iter::repeat_n(7, 3 * PIECE / 2).collect();
    peer.write_all(&much).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    knows(&stream, Ready::CLOSED).await;
    let mut read = 0;
    while let bytes @ 1.. = stream.try_take(<[u8]>::len).unwrap() {
        read += bytes;
    }
    assert_eq!(read, 3 * PIECE / 2);
}

#[tokio::test]
async fn a_reset_behind_the_last_bytes_is_no_end() {
    let (stream, mut peer) = pair();
    peer.write_all(b"cut").unwrap();
    socket2::SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(peer);
    knows(&stream, Ready::FAILED).await;
    let mut last = stream.try_read(&mut [0; 16]);
    if let Ok(1..) = last {
        last = stream.try_read(&mut [0; 16]);
    }
    assert_eq!(last.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn small_writes_pass_at_once_from_the_second_one_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    dialled.set_nonblocking(true).unwrap();
    let stream = Stream::connecting(dialled).unwrap();
    stream.connected().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert!(
        !stream.socket.nodelay().unwrap(),
        "nothing is ahead of the first write"
    );
    stream.write_all(b"more").await.unwrap();
    assert!(stream.socket.nodelay().unwrap());
}

#[tokio::test]
async fn a_refused_connection_is_told() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None).unwrap();
    let _ = socket.connect(&nobody.into());
    let stream = Stream::connecting(socket.into()).unwrap();
    let error = stream.connected().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn events_of_a_source_that_is_gone_are_not_its_successors() {
    let (first, mut first_peer) = pair();
    // Keeps the connection open, and with it the kernel's registration.
    let _twin = first.twin().unwrap();
    drop(first);
    let (second, _second_peer) = pair();
    first_peer.write_all(b"late").unwrap();
    let (third, mut third_peer) = pair();
    third_peer.write_all(b"x").unwrap();
    third.readable().await;
    assert!(!second.source.known().has(Ready::READ));
}

#[tokio::test]
async fn a_leg_is_reset_by_the_end_of_the_process_once_it_is_guarded_and_never_when_it_ended_in_order() {
    let (stream, mut peer) = pair();
    let leg = Leg::new(stream);
    let linger = |leg: &Leg| socket2::SockRef::from(&**leg).linger().unwrap();
    assert_eq!(linger(&leg), None, "a short flow is spared it");
    leg.guard();
    assert_eq!(linger(&leg), Some(std::time::Duration::ZERO));
    leg.orderly();
    assert_eq!(linger(&leg), None);
    leg.guard();
    assert_eq!(linger(&leg), None, "nothing is cut off any more");
    drop(leg);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}
