//! Tests of what the queue holds in memory, and of what is taken from it in pieces.

use std::net::IpAddr;
use std::sync::Barrier;
use std::time::Duration;

use tidegate_policy::event::{EventIds, Kind, NetworkEvent};
use tidegate_policy::verdict::Verdict;

use super::chunks::{CHUNK, SPARE};
use super::{EventQueue, PIECE, Queued};

fn event(verdict: Verdict, number: u64) -> NetworkEvent {
    let source = IpAddr::from([10, 77, 1, (number % 7) as u8]);
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, source);
    event.verdict = verdict;
    event.bytes_up = number;
    event
}

/// Events of which the memory is held.
fn held(queue: &EventQueue) -> usize {
    queue.permits.iter().map(|shard| shard.0.lock().held()).sum()
}

fn numbers(events: &[Queued]) -> Vec<u64> {
    events.iter().map(|one| one.bytes_up).collect()
}

#[test]
fn much_is_taken_in_pieces_of_one_order_and_none_twice() {
    let queue = EventQueue::new(10 * PIECE);
    let all = 3 * PIECE as u64 + 17;
    let turns = [Barrier::new(2), Barrier::new(2)];
    // Two threads in turns, and every fifth is a refusal: three lanes that are merged.
    std::thread::scope(|scope| {
        for own in 0..2_u64 {
            let (queue, turns) = (&queue, &turns);
            scope.spawn(move || {
                for number in 0..all {
                    if number % 2 == own {
                        let refused = number % 5 == 0;
                        let verdict = if refused { Verdict::Refuse } else { Verdict::Permit };
                        queue.push(event(verdict, number));
                    }
                    turns[(number % 2) as usize].wait();
                }
            });
        }
    });
    let mut seen = Vec::new();
    loop {
        let taken = queue.take(Duration::ZERO);
        assert!(taken.open && taken.events.len() <= PIECE);
        seen.extend(numbers(&taken.events));
        assert_eq!(taken.upto, seen.len() as u64, "what is taken is all below");
        assert_eq!(taken.more, (seen.len() as u64) < all);
        let more = taken.more;
        queue.recycle(taken.events);
        if !more {
            break;
        }
    }
    assert_eq!(seen, (0..all).collect::<Vec<_>>());
    assert!(queue.is_empty());
}

#[test]
fn what_waits_behind_a_piece_can_still_be_dropped_for_a_refusal() {
    let capacity = 3 * PIECE as u64;
    let queue = EventQueue::new(capacity as usize);
    for number in 0..capacity {
        queue.push(event(Verdict::Permit, number));
    }
    let first = queue.take(Duration::ZERO);
    assert_eq!(numbers(&first.events), (0..PIECE as u64).collect::<Vec<_>>());
    for number in 0..capacity {
        queue.push(event(Verdict::Refuse, capacity + number));
    }
    let (mut seen, mut lost) = (Vec::new(), first.lost);
    while let taken = queue.take(Duration::ZERO)
        && !taken.events.is_empty()
    {
        lost.permits += taken.lost.permits;
        lost.refusals += taken.lost.refusals;
        seen.extend(numbers(&taken.events));
    }
    let refusals = seen.iter().filter(|number| **number >= capacity).count() as u64;
    assert_eq!(
        (refusals, lost.refusals),
        (capacity, 0),
        "there were permits to go"
    );
    let kept = seen.len() as u64 - refusals;
    assert_eq!(
        PIECE as u64 + kept + lost.permits,
        capacity,
        "each is seen or counted"
    );
    assert!(seen.is_sorted());
}

#[test]
fn at_its_bound_it_holds_no_more_memory_and_gives_it_back_after() {
    let capacity = 64 * CHUNK;
    let queue = EventQueue::new(capacity);
    assert_eq!(held(&queue), 0, "nothing is held before it is needed");
    for number in 0..3 * capacity as u64 {
        queue.push(event(Verdict::Permit, number));
        assert!(held(&queue) <= capacity + (1 + SPARE) * CHUNK);
    }
    assert_eq!(queue.len(), capacity);
    let mut seen = Vec::new();
    while let taken = queue.take(Duration::ZERO)
        && !taken.events.is_empty()
    {
        seen.extend(numbers(&taken.events));
        queue.recycle(taken.events);
    }
    assert_eq!(
        seen,
        (2 * capacity as u64..3 * capacity as u64).collect::<Vec<_>>()
    );
    // Looking in vain a few times is what an idle consumer does.
    let mut left = held(&queue);
    while left > 0 {
        drop(queue.take(Duration::ZERO));
        let now = held(&queue);
        assert!(now < left, "{now} of {left} are held for nothing");
        left = now;
    }
}

#[test]
fn a_closed_queue_is_emptied_before_it_is_said_to_be_closed() {
    let queue = EventQueue::new(4 * PIECE);
    for number in 0..=2 * PIECE as u64 {
        queue.push(event(Verdict::Permit, number));
    }
    queue.close();
    let open: Vec<_> = (0..3)
        .map(|_| queue.take(Duration::ZERO))
        .map(|taken| (taken.events.len(), taken.open))
        .collect();
    assert_eq!(open, [(PIECE, true), (PIECE, true), (1, false)]);
}
