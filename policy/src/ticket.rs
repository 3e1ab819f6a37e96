//! Answer tickets: proof that a job was given an address as an answer for a name.
//!
//! `dns` grants tickets before an answer leaves, `proxy` asks for them when a flow arrives and holds
//! them while the flow lives. The table of one subject is bounded: its own oldest ticket goes first, so a
//! job can't push out another's.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::Moment;
use crate::name::DnsName;
use crate::special;

/// Tickets one subject may hold.
pub const MAX_TICKETS: usize = 16_384;
/// Names of CNAME, DNAME and SVCB chains one subject may hold.
pub const MAX_CHAIN_NAMES: usize = 4_096;
/// Names kept for one address; more than a CDN's edge shows to one job.
const MAX_NAMES_PER_ADDRESS: usize = 256;

/// What one DNS answer gives to a job.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// The name first asked: what a flow's name is compared with.
    pub asked: &'a DnsName,
    /// Every further name of the chain (CNAME, DNAME and SVCB targets).
    pub chain: &'a [DnsName],
    /// The addresses of the answer, hints included.
    pub addresses: &'a [IpAddr],
    /// The smallest TTL of the answer.
    pub ttl: Duration,
}

/// The tickets of one subject. Shared by its flows and queries; every call takes `now`.
#[derive(Debug)]
pub struct TicketTable {
    inner: Mutex<Inner>,
    stripe: u16,
}

/// Counters of [`TicketTable::epoch`], each shared by some tables: 32 KiB that stay in the processor's cache, where those of
/// ten thousand tables would not.
const STRIPES: usize = 4_096;
static EPOCHS: [AtomicU64; STRIPES] = [const { AtomicU64::new(0) }; STRIPES];
/// Tables made so far.
static TABLES: AtomicU64 = AtomicU64::new(0);

impl Default for TicketTable {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            stripe: (TABLES.fetch_add(1, Ordering::Relaxed) as usize % STRIPES) as u16,
        }
    }
}

/// What [`TicketTable::renew`] leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The table's epoch right after: as long as it stays, so do the tickets, until they expire.
    pub epoch: u64,
    /// Another name has a ticket at one of the addresses too.
    pub shared: bool,
}

#[derive(Debug)]
struct Ticket {
    /// Of the name, so that an address of many names is searched without looking at each.
    mark: u32,
    name: DnsName,
    expires: Moment,
    holders: u32,
    serial: u64,
    /// The later of the serial and the last [`TicketTable::touch`].
    given: u64,
}

#[derive(Debug, Default)]
struct Inner {
    by_address: HashMap<IpAddr, SmallVec<[Ticket; 1]>>,
    /// Tickets by age: the serial of each grant or renewal, so that the oldest is found in O(log n).
    by_age: BTreeMap<u64, (IpAddr, DnsName)>,
    chains: HashMap<DnsName, (DnsName, Moment)>,
    chain_order: VecDeque<DnsName>,
    next_serial: u64,
    /// Something changed that [`TicketTable::epoch`] is still to tell of.
    changed: bool,
}

impl TicketTable {
    /// Stores what an answer gives. `hold` is the least time that a ticket lives (`ticket-hold`).
    pub fn grant(&self, grant: &Grant<'_>, hold: Duration, now: Moment) {
        let mut inner = self.inner.lock();
        inner.grant(grant, now.plus(grant.ttl.max(hold)), now);
        self.tell(&mut inner);
    }

    /// Stores what an answer gives, as [`Self::grant`] does, and tells how long that can be relied on without asking again:
    /// until `expires` or until the [`epoch`](Self::epoch) changes.
    pub fn renew(&self, grant: &Grant<'_>, expires: Moment, now: Moment) -> Renewed {
        let mut inner = self.inner.lock();
        inner.grant(grant, expires, now);
        let epoch = self.tell(&mut inner);
        let shared = grant.addresses.iter().any(|address| {
            let held = inner.by_address.get(&special::canonical(*address));
            held.is_some_and(|tickets| tickets.len() > 1)
        });
        Renewed { epoch, shared }
    }

    /// Notes that an answer gave these tickets again, which are known to live: they are the newest of their addresses from
    /// now on.
    pub fn touch(&self, name: &DnsName, addresses: &[IpAddr]) {
        let mut inner = self.inner.lock();
        let serial = inner.next_serial;
        inner.next_serial += 1;
        for address in addresses {
            let held = inner.by_address.get_mut(&special::canonical(*address));
            let known = held.and_then(|tickets| tickets.iter_mut().find(|ticket| ticket.name == *name));
            if let Some(ticket) = known {
                ticket.given = serial;
            }
        }
    }

    /// Changes whenever a ticket goes before it has expired, an address comes to have several names, or a name becomes part
    /// of a chain or of another one. Renewals and new tickets of other addresses don't change it. What another table of the
    /// same [stripe](Self::stripe) tells of changes it, too.
    pub fn epoch(&self) -> u64 {
        Self::epoch_of(self.stripe)
    }

    /// By which counter the epoch goes.
    pub fn stripe(&self) -> u16 {
        self.stripe
    }

    /// The epoch of all tables of a stripe; it only ever grows.
    pub fn epoch_of(stripe: u16) -> u64 {
        EPOCHS
            .get(usize::from(stripe))
            .map_or(0, |epoch| epoch.load(Ordering::Acquire))
    }

    /// Moves the epoch if there is something to tell, and gives it back. The lock is held, so that it holds for the table as
    /// it is now.
    fn tell(&self, inner: &mut Inner) -> u64 {
        if std::mem::take(&mut inner.changed)
            && let Some(epoch) = EPOCHS.get(usize::from(self.stripe))
        {
            epoch.fetch_add(1, Ordering::Release);
        }
        self.epoch()
    }

    /// True when this address was given for `name` and still counts.
    pub fn holds(&self, name: &DnsName, address: IpAddr, now: Moment) -> bool {
        let mark = mark(name);
        let inner = self.inner.lock();
        inner
            .live(special::canonical(address), now)
            .any(|ticket| ticket.is_of(mark, name))
    }

    /// The first of [`TicketTable::names_at`].
    pub fn newest_at(&self, address: IpAddr, now: Moment) -> Option<DnsName> {
        let inner = self.inner.lock();
        let mut newest: Option<&Ticket> = None;
        for ticket in inner.live(special::canonical(address), now) {
            if newest.is_none_or(|newest| ticket.given > newest.given) {
                newest = Some(ticket);
            }
        }
        newest.map(|ticket| ticket.name.clone())
    }

    /// Every name that the job holds for `address`, newest first.
    pub fn names_at(&self, address: IpAddr, now: Moment) -> SmallVec<[DnsName; 4]> {
        let inner = self.inner.lock();
        let mut found: SmallVec<[(u64, DnsName); 4]> = inner
            .live(special::canonical(address), now)
            .map(|ticket| (ticket.given, ticket.name.clone()))
            .collect();
        found.sort_by_key(|(given, _)| std::cmp::Reverse(*given));
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// The name first asked whose live chain `name` belongs to.
    pub fn chain_owner(&self, name: &DnsName, now: Moment) -> Option<DnsName> {
        let inner = self.inner.lock();
        inner
            .chains
            .get(name)
            .filter(|(_, expires)| *expires > now)
            .map(|(owner, _)| owner.clone())
    }

    /// Number of tickets stored, expired ones not yet collected included.
    pub fn len(&self) -> usize {
        self.inner.lock().by_age.len()
    }

    /// True when nothing was ever granted, or all of it has gone.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every ticket: the lease ended.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        let changed = !(inner.by_age.is_empty() && inner.chains.is_empty());
        *inner = Inner {
            changed,
            ..Inner::default()
        };
        self.tell(&mut inner);
    }

    fn change_holders(&self, name: &DnsName, address: IpAddr, change: impl FnOnce(&mut Ticket)) -> bool {
        let mark = mark(name);
        let mut inner = self.inner.lock();
        let Some(tickets) = inner.by_address.get_mut(&address) else {
            return false;
        };
        tickets
            .iter_mut()
            .find(|ticket| ticket.is_of(mark, name))
            .map(change)
            .is_some()
    }
}

impl Inner {
    fn grant(&mut self, grant: &Grant<'_>, expires: Moment, now: Moment) {
        for address in grant.addresses {
            self.put(special::canonical(*address), grant.asked, expires, now);
        }
        for name in grant.chain {
            self.put_chain(name, grant.asked, expires, now);
        }
    }

    fn live(&self, address: IpAddr, now: Moment) -> impl Iterator<Item = &Ticket> {
        let tickets = self
            .by_address
            .get(&address)
            .map_or(&[][..], |found| found.as_slice());
        tickets
            .iter()
            .filter(move |ticket| ticket.holders > 0 || ticket.expires > now)
    }

    fn put(&mut self, address: IpAddr, name: &DnsName, expires: Moment, now: Moment) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let tickets = self.by_address.entry(address).or_default();
        if let Some(known) = tickets.iter_mut().find(|ticket| ticket.name == *name) {
            let old = std::mem::replace(&mut known.serial, serial);
            known.given = serial;
            // Who grants again shares the name with other tables: one text, for all of them.
            known.name = name.clone();
            known.expires = known.expires.max(expires);
            self.by_age.remove(&old);
            self.by_age.insert(serial, (address, name.clone()));
            return;
        }
        if tickets.len() >= MAX_NAMES_PER_ADDRESS
            && let Some(at) = oldest_of(tickets)
        {
            let gone = tickets.swap_remove(at);
            self.by_age.remove(&gone.serial);
        }
        self.changed |= !tickets.is_empty();
        tickets.push(Ticket {
            mark: mark(name),
            name: name.clone(),
            expires,
            holders: 0,
            serial,
            given: serial,
        });
        self.by_age.insert(serial, (address, name.clone()));
        self.collect(now);
    }

    /// Removes expired tickets from the old end, and live ones beyond the bound. Held tickets of open
    /// flows are passed over, at most a handful a call, so that one call stays cheap.
    fn collect(&mut self, now: Moment) {
        let mut passed: SmallVec<[(u64, (IpAddr, DnsName)); 8]> = SmallVec::new();
        while passed.len() < 8 {
            let Some((serial, (address, name))) = self.by_age.pop_first() else {
                break;
            };
            let over = self.by_age.len() + passed.len() + 1 > MAX_TICKETS;
            let Some(tickets) = self.by_address.get_mut(&address) else {
                continue;
            };
            let Some(at) = tickets.iter().position(|ticket| ticket.serial == serial) else {
                continue;
            };
            let (held, expired) = (tickets[at].holders > 0, tickets[at].expires <= now);
            if held || !(expired || over) {
                passed.push((serial, (address, name)));
                if held {
                    continue;
                }
                break;
            }
            tickets.swap_remove(at);
            self.changed |= !expired;
            if tickets.is_empty() {
                self.by_address.remove(&address);
            }
        }
        // Past the bound with only held tickets at the old end: the bound wins, the oldest goes.
        if self.by_age.len() + passed.len() > MAX_TICKETS && !passed.is_empty() {
            let (serial, (address, _)) = passed.remove(0);
            self.changed = true;
            if let Some(tickets) = self.by_address.get_mut(&address) {
                tickets.retain(|ticket| ticket.serial != serial);
                if tickets.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
        self.by_age.extend(passed);
    }

    fn put_chain(&mut self, name: &DnsName, owner: &DnsName, expires: Moment, now: Moment) {
        let before = self.chains.insert(name.clone(), (owner.clone(), expires));
        let is_renewal = before
            .as_ref()
            .is_some_and(|(known, until)| known == owner && *until > now && *until <= expires);
        self.changed |= !is_renewal;
        if before.is_none() {
            self.chain_order.push_back(name.clone());
            if self.chain_order.len() > MAX_CHAIN_NAMES
                && let Some(oldest) = self.chain_order.pop_front()
            {
                self.chains.remove(&oldest);
            }
        }
    }
}

impl Ticket {
    fn is_of(&self, mark: u32, name: &DnsName) -> bool {
        self.mark == mark && self.name == *name
    }
}

/// A few bits of a name (FNV-1a, eight octets a step). Whoever chooses names may make them alike, and has then won what
/// comparing names costs.
fn mark(name: &DnsName) -> u32 {
    let (chunks, rest) = name.as_wire().as_chunks::<8>();
    let step = |mark: u64, part: u64| (mark ^ part).wrapping_mul(0x100_0000_01b3).rotate_left(29);
    let whole = chunks.iter().fold(0xcbf2_9ce4_8422_2325, |mark, chunk| {
        step(mark, u64::from_le_bytes(*chunk))
    });
    let all = rest.iter().fold(whole, |mark, byte| step(mark, u64::from(*byte)));
    (all >> 32) as u32
}

fn oldest_of(tickets: &[Ticket]) -> Option<usize> {
    tickets
        .iter()
        .enumerate()
        .min_by_key(|(_, ticket)| ticket.serial)
        .map(|(at, _)| at)
}

/// Keeps one ticket alive while a flow uses it. [`TicketHold::release`] renews it; merely dropping the
/// hold ends it without renewal.
#[derive(Debug)]
pub struct TicketHold {
    table: Arc<TicketTable>,
    name: DnsName,
    address: IpAddr,
    held: bool,
}

impl TicketHold {
    /// Holds the ticket of (`name`, `address`); `None` when there is none.
    pub fn take(table: &Arc<TicketTable>, name: &DnsName, address: IpAddr) -> Option<Self> {
        let address = special::canonical(address);
        table
            .change_holders(name, address, |ticket| {
                ticket.holders = ticket.holders.saturating_add(1);
            })
            .then(|| Self {
                table: Arc::clone(table),
                name: name.clone(),
                address,
                held: true,
            })
    }

    /// Ends the hold at `now`; the ticket lives on for `hold` from here (renewed by use).
    pub fn release(mut self, hold: Duration, now: Moment) {
        self.held = false;
        self.table.change_holders(&self.name, self.address, |ticket| {
            ticket.expires = ticket.expires.max(now.plus(hold));
            ticket.holders = ticket.holders.saturating_sub(1);
        });
    }
}

impl Drop for TicketHold {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        self.table.change_holders(&self.name, self.address, |ticket| {
            ticket.holders = ticket.holders.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests;
