//! Where open flows are kept: a table of places, and for each subject and each source the places of its flows. Owns
//! these indices; never knows what a flow is. Driven by [`crate::registry`], under its lock.
//!
//! A flow is entered and left a hundred thousand times for one time that somebody asks for all flows of a subject,
//! so each place knows where in both lists it stands, and leaving searches nothing.

use std::hash::Hash;
use std::net::IpAddr;

use hashbrown::HashMap;

/// Places for flows.
#[derive(Debug)]
pub(crate) struct Places<T> {
    /// As many as there ever were flows at once.
    all: Vec<Option<Place<T>>>,
    free: Vec<u32>,
    by_subject: HashMap<u64, Vec<u32>>,
    by_source: HashMap<IpAddr, Vec<u32>>,
}

#[derive(Debug)]
struct Place<T> {
    flow: T,
    subject: u64,
    source: IpAddr,
    /// Where this place stands in the list of its subject.
    at_subject: u32,
    /// The same of its source.
    at_source: u32,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            by_subject: HashMap::new(),
            by_source: HashMap::new(),
        }
    }
}

impl<T: Clone> Places<T> {
    /// Flows in all.
    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Flows of one subject.
    pub(crate) fn of_subject(&self, subject: u64) -> usize {
        self.by_subject.get(&subject).map_or(0, Vec::len)
    }

    /// Enters a flow and says where.
    pub(crate) fn take(&mut self, flow: T, subject: u64, source: IpAddr) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        let taken = Place {
            flow,
            subject,
            source,
            at_subject: add(&mut self.by_subject, subject, place),
            at_source: add(&mut self.by_source, source, place),
        };
        self.all[place as usize] = Some(taken);
        place
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, place: u32) {
        let Some(gone) = self.all[place as usize].take() else {
            return;
        };
        self.free.push(place);
        if let Some(moved) = remove(&mut self.by_subject, gone.subject, gone.at_subject) {
            self.at(moved, |place| place.at_subject = gone.at_subject);
        }
        if let Some(moved) = remove(&mut self.by_source, gone.source, gone.at_source) {
            self.at(moved, |place| place.at_source = gone.at_source);
        }
    }

    /// Makes a flow another subject's.
    pub(crate) fn change_subject(&mut self, place: u32, subject: u64) {
        let Some((before, at)) = self.all[place as usize]
            .as_ref()
            .map(|place| (place.subject, place.at_subject))
        else {
            return;
        };
        if let Some(moved) = remove(&mut self.by_subject, before, at) {
            self.at(moved, |place| place.at_subject = at);
        }
        let at = add(&mut self.by_subject, subject, place);
        self.at(place, |place| (place.subject, place.at_subject) = (subject, at));
    }

    /// The flow at a place.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        Some(&self.all.get(place as usize)?.as_ref()?.flow)
    }

    /// Every flow, with its place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        let flow = |(at, place): (usize, &Option<Place<T>>)| Some((at as u32, place.as_ref()?.flow.clone()));
        self.all.iter().enumerate().filter_map(flow)
    }

    /// The flows of a subject.
    pub(crate) fn subject(&self, id: u64) -> impl Iterator<Item = (u32, T)> + '_ {
        self.pick(self.by_subject.get(&id))
    }

    /// The flows of a source.
    pub(crate) fn source(&self, source: IpAddr) -> impl Iterator<Item = (u32, T)> + '_ {
        self.pick(self.by_source.get(&source))
    }

    fn pick<'a>(&'a self, list: Option<&'a Vec<u32>>) -> impl Iterator<Item = (u32, T)> + 'a {
        let found = |place: &u32| Some((*place, self.get(*place)?.clone()));
        list.into_iter().flatten().filter_map(found)
    }

    fn at(&mut self, place: u32, change: impl FnOnce(&mut Place<T>)) {
        if let Some(place) = &mut self.all[place as usize] {
            change(place);
        }
    }
}

/// Puts a place behind the others of `key` and says where.
fn add<K: Hash + Eq>(lists: &mut HashMap<K, Vec<u32>>, key: K, place: u32) -> u32 {
    let list = lists.entry(key).or_default();
    list.push(place);
    list.len() as u32 - 1
}

/// Takes out what stands at `at` in the list of `key`; the place that stands there now is returned.
fn remove<K: Hash + Eq>(lists: &mut HashMap<K, Vec<u32>>, key: K, at: u32) -> Option<u32> {
    let list = lists.get_mut(&key)?;
    list.swap_remove(at as usize);
    let moved = list.get(at as usize).copied();
    if list.is_empty() {
        lists.remove(&key);
    }
    moved
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn source(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    /// A flow as the plain list has it: place, flow, subject, source.
    type Plain = (u32, u32, u64, IpAddr);

    proptest! {
        #[test]
        fn every_list_holds_the_flows_that_a_plain_one_holds(steps in vec((0_u8..4, any::<u8>(), 0_u8..4), 1..200)) {
            let mut places = Places::default();
            let mut plain: Vec<Plain> = Vec::new();
            for (number, (what, which, of)) in steps.into_iter().enumerate() {
                let at = usize::from(which).checked_rem(plain.len());
                match (what, at) {
                    (0 | 1, _) | (_, None) => {
                        let (flow, subject, from) = (number as u32, u64::from(which % 3), source(of));
                        let place = places.take(flow, subject, from);
                        prop_assert!(plain.iter().all(|one| one.0 != place));
                        plain.push((place, flow, subject, from));
                    }
                    (2, Some(at)) => places.leave(plain.swap_remove(at).0),
                    (_, Some(at)) => {
                        plain[at].2 = u64::from(of);
                        places.change_subject(plain[at].0, u64::from(of));
                    }
                }
                let sorted = |mut all: Vec<(u32, u32)>| {
                    all.sort_unstable();
                    all
                };
                let those = |wanted: &dyn Fn(&Plain) -> bool| {
                    let found = plain.iter().filter(|one| wanted(one));
                    sorted(found.map(|one| (one.0, one.1)).collect())
                };
                prop_assert_eq!(places.len(), plain.len());
                prop_assert_eq!(sorted(places.all().collect()), those(&|_| true));
                for of in 0..4 {
                    prop_assert_eq!(sorted(places.subject(of).collect()), those(&|one| one.2 == of));
                    prop_assert_eq!(places.of_subject(of), those(&|one| one.2 == of).len());
                    let from = source(of as u8);
                    prop_assert_eq!(sorted(places.source(from).collect()), those(&|one| one.3 == from));
                }
            }
            for one in &plain {
                places.leave(one.0);
            }
            prop_assert!(places.by_subject.is_empty() && places.by_source.is_empty());
        }
    }
}
