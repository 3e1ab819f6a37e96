//! That tickets last as long as they must, and no table outgrows its bound.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

const HOLD: Duration = Duration::from_hours(1);

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4((0xc000_0200 + n).into())
}

fn grant(table: &TicketTable, asked: &DnsName, addresses: &[IpAddr], now: Moment) {
    table.grant(
        &Grant {
            asked,
            chain: &[],
            addresses,
            ttl: Duration::from_mins(1),
        },
        HOLD,
        now,
    );
}

#[test]
fn lives_for_the_longer_of_ttl_and_hold() {
    let table = TicketTable::default();
    let a = name("a.test");
    grant(&table, &a, &[address(1)], Moment::from_millis(0));
    assert!(table.holds(&a, address(1), Moment::from_millis(3_599_999)));
    assert!(!table.holds(&a, address(1), Moment::from_millis(3_600_000)));
    assert!(!table.holds(&a, address(2), Moment::from_millis(0)));
}

#[test]
fn a_held_ticket_outlives_its_expiry_and_is_renewed_by_use() {
    let table = Arc::new(TicketTable::default());
    let a = name("a.test");
    grant(&table, &a, &[address(1)], Moment::from_millis(0));
    let hold = TicketHold::take(&table, &a, address(1)).unwrap();
    let late = Moment::from_millis(9_000_000);
    assert!(table.holds(&a, address(1), late));
    hold.release(HOLD, late);
    assert!(table.holds(&a, address(1), late.plus(Duration::from_secs(3_599))));
    assert!(!table.holds(&a, address(1), late.plus(HOLD)));
}

#[test]
fn the_epoch_stays_while_tickets_do_and_changes_when_one_goes_or_a_chain_does() {
    let table = TicketTable::default();
    let (a, b, link) = (name("a.test"), name("b.test"), name("cdn.test"));
    let now = Moment::from_millis(0);
    let (far, chain, here) = (now.plus(HOLD), [link.clone()], [address(1)]);
    let of = |asked, chain, addresses| Grant {
        asked,
        chain,
        addresses,
        ttl: Duration::ZERO,
    };
    let first = table.renew(&of(&a, &[], &here), far, now);
    assert!(!first.shared);
    grant(&table, &a, &[address(1)], now);
    grant(&table, &b, &[address(2)], now);
    assert_eq!(
        table.epoch(),
        first.epoch,
        "renewals and other addresses change nothing"
    );
    grant(&table, &b, &[address(1)], now);
    assert_ne!(table.epoch(), first.epoch, "a second name at the address");
    let second = table.renew(&of(&a, &[], &here), far, now);
    assert!(second.shared);
    let linked = table.renew(&of(&a, &chain, &[]), far, now);
    assert_ne!(linked.epoch, second.epoch, "a new chain");
    assert_eq!(table.renew(&of(&a, &chain, &[]), far, now).epoch, linked.epoch);
    let moved = table.renew(&of(&b, &chain, &[]), far, now);
    assert_ne!(moved.epoch, linked.epoch, "another name's chain");
    let again = table.renew(&of(&b, &chain, &[]), far.plus(HOLD), far);
    assert_ne!(
        again.epoch, moved.epoch,
        "a chain that had expired counts as a new one"
    );
    table.clear();
    assert_ne!(table.epoch(), again.epoch);
}

#[test]
fn a_touched_name_is_the_newest_of_its_addresses() {
    let table = TicketTable::default();
    let (a, b, now) = (name("a.test"), name("b.test"), Moment::from_millis(0));
    grant(&table, &a, &[address(1)], now);
    grant(&table, &b, &[address(1), address(2)], now);
    assert_eq!(table.names_at(address(1), now).to_vec(), [b.clone(), a.clone()]);
    let epoch = table.epoch();
    table.touch(&a, &[address(1), address(2)]);
    assert_eq!(table.names_at(address(1), now).to_vec(), [a.clone(), b.clone()]);
    let alone = table.names_at(address(2), now);
    assert_eq!(alone.first(), Some(&b));
    assert_eq!(alone.len(), 1, "nothing is given");
    assert_eq!(table.epoch(), epoch);
    grant(&table, &b, &[address(1)], now);
    assert_eq!(table.names_at(address(1), now).to_vec(), [b, a]);
}

#[test]
fn the_epoch_changes_when_a_bound_pushes_a_live_ticket_out() {
    let table = TicketTable::default();
    let (a, now) = (name("a.test"), Moment::from_millis(0));
    for n in 0..MAX_TICKETS as u32 {
        grant(&table, &a, &[address(n)], now);
    }
    let before = table.epoch();
    grant(&table, &a, &[address(MAX_TICKETS as u32)], now);
    assert!(!table.holds(&a, address(0), now));
    assert_ne!(table.epoch(), before);
}

#[test]
fn at_the_bound_the_jobs_own_oldest_goes_first() {
    let table = TicketTable::default();
    let now = Moment::from_millis(0);
    for n in 0..=MAX_TICKETS as u32 {
        grant(&table, &name("a.test"), &[address(n)], now);
    }
    assert_eq!(table.len(), MAX_TICKETS);
    assert!(!table.holds(&name("a.test"), address(0), now));
    assert!(table.holds(&name("a.test"), address(1), now));
    assert!(table.holds(&name("a.test"), address(MAX_TICKETS as u32), now));
}

#[test]
fn held_tickets_do_not_break_the_bound() {
    let table = Arc::new(TicketTable::default());
    let now = Moment::from_millis(0);
    let mut holds = Vec::new();
    for n in 0..64 + MAX_TICKETS as u32 {
        grant(&table, &name("a.test"), &[address(n)], now);
        holds.extend(TicketHold::take(&table, &name("a.test"), address(n)));
    }
    assert!(table.len() <= MAX_TICKETS, "{}", table.len());
}

#[test]
fn chain_names_lead_to_the_name_first_asked() {
    let table = TicketTable::default();
    let (asked, target) = (name("www.a.test"), name("edge.cdn.test"));
    let now = Moment::from_millis(0);
    let chain = [target.clone()];
    let grant = Grant {
        asked: &asked,
        chain: &chain,
        addresses: &[address(1)],
        ttl: Duration::ZERO,
    };
    table.grant(&grant, HOLD, now);
    assert_eq!(table.chain_owner(&target, now), Some(asked.clone()));
    assert_eq!(table.chain_owner(&target, now.plus(HOLD)), None);
    assert!(
        !table.holds(&target, address(1), now),
        "the target is not thereby allowed"
    );
    assert_eq!(table.names_at(address(1), now).as_slice(), [asked]);
}

#[test]
fn names_per_address_are_bounded() {
    let table = TicketTable::default();
    let now = Moment::from_millis(0);
    for n in 0..=MAX_NAMES_PER_ADDRESS {
        grant(&table, &name(&format!("n{n}.test")), &[address(1)], now);
    }
    assert_eq!(table.names_at(address(1), now).len(), MAX_NAMES_PER_ADDRESS);
    assert!(!table.holds(&name("n0.test"), address(1), now));
}

#[test]
fn v4_mapped_spelling_is_the_same_ticket() {
    let table = TicketTable::default();
    let now = Moment::from_millis(0);
    grant(&table, &name("a.test"), &[address(1)], now);
    assert!(table.holds(&name("a.test"), "::ffff:192.0.2.1".parse().unwrap(), now));
}
