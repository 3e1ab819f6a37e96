//! Whether an answer may still be repeated: everything that the slow path would look at, looked at again.
//!
//! Driven by [`super::Worker`], only when a counter moved or a moment passed ([`super::pair::Hot`]); stores tickets where an
//! answer gives some. Never answers.

use std::time::Duration;

use tidegate_policy::Moment;
use tidegate_policy::ticket::Grant;

use super::pair::Pair;
use crate::front::handler::DnsHandler;

/// How much longer than it must a ticket lives that the fast path renews, so that it is not renewed with every answer.
const MARGIN: Duration = Duration::from_secs(10);
/// How often it is noted which of several names at one address was given last.
const TOUCH: Duration = Duration::from_secs(1);

/// True when all that an answer depends on beside subject and rulebook is as it was; its tickets are stored then.
pub(super) fn holds(pair: &mut Pair<'_>, handler: &DnsHandler, hold: Duration, now: Moment) -> bool {
    is_within_budget(pair, handler) && has_noted_ech(pair) && has_tickets(pair, hold, now)
}

fn is_within_budget(pair: &mut Pair<'_>, handler: &DnsHandler) -> bool {
    let lesson = &pair.hot.lesson;
    let Some(rule) = &lesson.charged else {
        return true;
    };
    let epoch = handler.budgets.epoch();
    if epoch != pair.cold.epochs.budget {
        if !handler.charge(pair.cold.subject.id, &lesson.name, rule) {
            return false;
        }
        pair.cold.epochs.budget = epoch;
    }
    true
}

fn has_noted_ech(pair: &mut Pair<'_>) -> bool {
    let lesson = &pair.hot.lesson;
    if lesson.is_refusal() {
        return true;
    }
    let ledger = &lesson.said.ech;
    let epoch = ledger.epoch();
    if epoch != pair.cold.epochs.ech {
        let mut names = std::iter::once(&lesson.name).chain(&lesson.chain);
        if names.any(|name| ledger.knows(name)) {
            return false;
        }
        pair.cold.epochs.ech = epoch;
    }
    true
}

/// True when no chain leads through a name that is not allowed by itself; the answer's tickets live then as long as they
/// must.
pub(super) fn has_tickets(pair: &mut Pair<'_>, hold: Duration, now: Moment) -> bool {
    let (lesson, cold) = (&pair.hot.lesson, &mut *pair.cold);
    if !(lesson.chained || lesson.gives_tickets()) {
        return true;
    }
    let tickets = cold.subject.tickets();
    let least = now.plus(hold).max(lesson.ends);
    let is_known = cold
        .tickets
        .is_some_and(|(epoch, until)| epoch == tickets.epoch() && least <= until);
    if is_known {
        return true;
    }
    let epoch = if lesson.gives_tickets() {
        let grant = Grant {
            asked: &lesson.name,
            chain: &lesson.chain,
            addresses: &lesson.addresses,
            ttl: Duration::ZERO,
        };
        let renewed = tickets.renew(&grant, least.plus(MARGIN), now);
        cold.shared = renewed.shared;
        cold.touched = now;
        renewed.epoch
    } else {
        tickets.epoch()
    };
    if lesson.chained && tickets.chain_owner(&lesson.name, now).is_some() {
        return false;
    }
    let until = if lesson.gives_tickets() {
        least.plus(MARGIN)
    } else {
        Moment::from_millis(u64::MAX)
    };
    cold.tickets = Some((epoch, until));
    true
}

/// The moment at which [`holds`] must be asked again though nothing else changes.
pub(super) fn holds_until(pair: &Pair<'_>, hold: Duration) -> Moment {
    let (lesson, cold) = (&pair.hot.lesson, &*pair.cold);
    match cold.tickets {
        Some((_, live)) if lesson.gives_tickets() => {
            let left = live.since(Moment::default()).saturating_sub(hold);
            lesson.until.min(Moment::default().plus(left))
        }
        Some(_) | None => lesson.until,
    }
}

/// Notes that tickets are given again whose addresses other names have, too; gives back when that is to be noted next.
pub(super) fn touch(pair: &mut Pair<'_>, now: Moment) -> Option<Moment> {
    let (lesson, cold) = (&pair.hot.lesson, &mut *pair.cold);
    if !cold.shared {
        return None;
    }
    if now >= cold.touched.plus(TOUCH) {
        cold.subject.tickets().touch(&lesson.name, &lesson.addresses);
        cold.touched = now;
    }
    Some(cold.touched.plus(TOUCH))
}
