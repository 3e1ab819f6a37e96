//! Many names below one domain as one pattern: fewer lines, and whoever holds the domain decides what is below it.
//!
//! Pure. A pattern is taken only below a domain that somebody registered (or deeper): `*.github.io` or `*.co.uk` would let
//! in whoever registers a name there, so it is refused, however many names it would cover.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_policy::endpoint::cover::covered_by;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::endpoint::{Endpoint, Host};
use utoipa::ToSchema;

/// Suggestions at most.
const MOST: usize = 100;

/// A pattern and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collapsed {
    /// `*.cdn.example:443`.
    pub pattern: String,
    /// How many of the endpoints it covers.
    pub covers: usize,
    /// Which, sorted.
    pub endpoints: Vec<String>,
}

/// Why a pattern is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CollapseError {
    /// It is no endpoint.
    #[error("{pattern:?}: {why}")]
    NoEndpoint {
        /// As it was asked for.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// Strangers can register names that it matches.
    #[error("{pattern:?} reaches across registrable domains: anybody can register a name that it matches")]
    Public {
        /// As it was asked for.
        pattern: String,
    },
}

/// Reads a pattern that names may be collapsed to.
pub fn pattern(text: &str) -> Result<Endpoint, CollapseError> {
    let (read, notices) =
        parse_endpoint(text.trim(), Role::Allowed).map_err(|error| CollapseError::NoEndpoint {
            pattern: text.to_owned(),
            why: error.to_string(),
        })?;
    if notices.iter().any(|notice| notice.kind.refused_when_strict()) {
        return Err(CollapseError::Public {
            pattern: text.to_owned(),
        });
    }
    Ok(read)
}

/// The endpoints with those that a pattern covers left out and the pattern in their place; a pattern that covers nothing
/// is not written.
pub fn collapse(endpoints: Vec<String>, patterns: &[Endpoint]) -> (Vec<String>, Vec<Collapsed>) {
    let read = endpoints.iter().map(|text| parse_endpoint(text, Role::Allowed));
    let Ok(parsed) = read
        .map(|read| read.map(|(endpoint, _)| endpoint))
        .collect::<Result<Vec<_>, _>>()
    else {
        return (endpoints, Vec::new());
    };
    let mut covers: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    for (at, by) in covered_by(&parsed, patterns) {
        covers.entry(by).or_default().extend(endpoints.get(at).cloned());
        gone.insert(at);
    }
    let kept = endpoints
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !gone.contains(at));
    let mut all: Vec<String> = kept.map(|(_, text)| text).collect();
    let collapsed: Vec<Collapsed> = covers
        .into_iter()
        .filter_map(|(by, mut endpoints)| {
            endpoints.sort_unstable();
            Some(Collapsed {
                pattern: patterns.get(by)?.to_string(),
                covers: endpoints.len(),
                endpoints,
            })
        })
        .collect();
    all.extend(collapsed.iter().map(|one| one.pattern.clone()));
    all.sort_unstable();
    all.dedup();
    (all, collapsed)
}

/// Patterns that would cover at least so many of the endpoints, the narrowest that covers the same; the largest first.
///
/// A few steps for each label of each name: thousands of names may have a hundred labels each.
pub fn suggestions(endpoints: &[String], at_least: usize) -> Vec<Collapsed> {
    let names: BTreeSet<&str> = endpoints
        .iter()
        .map(String::as_str)
        .filter(|text| is_exact(text))
        .collect();
    let mut below: HashMap<Domain<'_>, usize> = HashMap::new();
    for text in &names {
        for domain in domains(text) {
            *below.entry(domain).or_default() += 1;
        }
    }
    // Whatever is below a domain is below the one above, too: a narrower pattern that covers the same is there when one
    // of the domains right below has as many.
    let mut widened: HashSet<Domain<'_>> = HashSet::new();
    for ((domain, rest), covers) in &below {
        if let Some((_, above)) = domain.split_once('.')
            && below.get(&(above, *rest)) == Some(covers)
        {
            widened.insert((above, rest));
        }
    }
    let mut found: Vec<(usize, String, Domain<'_>)> = below
        .into_iter()
        .filter(|(domain, covers)| *covers >= at_least.max(2) && !widened.contains(domain))
        .map(|(domain, covers)| (covers, format!("*.{}:{}", domain.0, domain.1), domain))
        .collect();
    found.sort_unstable_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
    found
        .into_iter()
        .filter(|(_, text, _)| pattern(text).is_ok())
        .take(MOST)
        .map(|(covers, pattern, of)| Collapsed {
            pattern,
            covers,
            endpoints: names
                .iter()
                .filter(|text| domains(text).any(|domain| domain == of))
                .map(|text| (*text).to_owned())
                .collect(),
        })
        .collect()
}

/// A domain, and the ports of what is below it.
type Domain<'t> = (&'t str, &'t str);

/// Whether an endpoint is one name.
fn is_exact(text: &str) -> bool {
    parse_endpoint(text, Role::Allowed).is_ok_and(|(read, _)| match &read.host {
        Host::Name(name) => name.as_exact().is_some(),
        Host::Net(_) => false,
    })
}

/// The domains that an endpoint is below, the longest first.
fn domains(text: &str) -> impl Iterator<Item = Domain<'_>> {
    let (host, rest) = text.split_once(':').unwrap_or((text, "443"));
    std::iter::successors(Some(host), |domain| Some(domain.split_once('.')?.1))
        .skip(1)
        .map(move |domain| (domain, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_below_one_domain_become_its_pattern_and_the_rest_stays() {
        let all = texts(&[
            "a.cdn.example.com:443",
            "b.cdn.example.com:443",
            "b.cdn.example.com:8443",
            "other.org:443",
        ]);
        let (left, collapsed) = collapse(all, &[pattern("*.cdn.example.com").unwrap()]);
        assert_eq!(
            left,
            ["*.cdn.example.com:443", "b.cdn.example.com:8443", "other.org:443"]
        );
        assert_eq!(collapsed.len(), 1);
        assert_eq!(
            collapsed[0].endpoints,
            ["a.cdn.example.com:443", "b.cdn.example.com:443"]
        );
        let (left, collapsed) = collapse(texts(&["a.org:443"]), &[pattern("*.example.com").unwrap()]);
        assert_eq!((left, collapsed), (texts(&["a.org:443"]), Vec::new()));
    }

    #[test]
    fn a_pattern_never_reaches_across_a_registrable_domain() {
        for public in ["*.com", "*.co.uk:443", "*.github.io", "*", "*example.com"] {
            assert!(
                matches!(pattern(public), Err(CollapseError::Public { .. })),
                "{public}"
            );
        }
        for own in ["*.example.com", "*.example.co.uk:443", "*.x.github.io:443"] {
            assert!(pattern(own).is_ok(), "{own}");
        }
        assert!(matches!(pattern("a b"), Err(CollapseError::NoEndpoint { .. })));
        let pages = texts(&[
            "a.github.io:443",
            "b.github.io:443",
            "c.github.io:443",
            "a.co.uk:443",
            "b.co.uk:443",
        ]);
        assert_eq!(suggestions(&pages, 2), []);
    }

    #[test]
    fn suggestions_are_the_narrowest_patterns_of_one_port() {
        let all = texts(&[
            "a.cdn.example.com:443",
            "b.cdn.example.com:443",
            "b.cdn.example.com:8443",
            "www.example.com:443",
            "192.0.2.1:443",
            "[2001:db8::1]:443",
            "*.wild.example.com:443",
        ]);
        let found = suggestions(&all, 2);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.pattern.as_str(), one.covers))
            .collect();
        assert_eq!(found, [("*.example.com:443", 3), ("*.cdn.example.com:443", 2)]);
        assert_eq!(suggestions(&all, 4), []);
    }

    /// The same, by comparing every group with every other.
    fn compared(endpoints: &[String], at_least: usize) -> Vec<(String, BTreeSet<String>)> {
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for text in endpoints {
            let (host, port) = text.split_once(':').unwrap();
            for (at, _) in host.match_indices('.') {
                let pattern = format!("*.{}:{port}", &host[at + 1..]);
                groups.entry(pattern).or_default().insert(text.clone());
            }
        }
        let narrower = |text: &str, covers: &BTreeSet<String>| {
            groups.iter().any(|(other, same)| {
                other.len() > text.len() && same == covers && other.ends_with(&text[1..])
            })
        };
        let mut found: Vec<_> = groups
            .iter()
            .filter(|(text, covers)| covers.len() >= at_least && pattern(text).is_ok())
            .filter(|(text, covers)| !narrower(text, covers))
            .map(|(text, covers)| (text.clone(), covers.clone()))
            .collect();
        found.sort_by_key(|(_, covers)| std::cmp::Reverse(covers.len()));
        found
    }

    #[test]
    fn suggestions_are_those_of_a_comparison_of_all_with_all() {
        let labels = ["a", "b", "c"];
        let mut state = 7_u32;
        let mut next = |most: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from(state >> 16).unwrap() % most
        };
        for round in 0..40 {
            let all: Vec<String> = (0..round)
                .map(|_| {
                    let depth = next(5);
                    let name: Vec<&str> = (0..depth).map(|_| labels[next(3)]).collect();
                    let name = [name, vec!["x", labels[next(2)], "com"]].concat().join(".");
                    format!("{name}:{}", 443 + next(2))
                })
                .collect();
            for at_least in [2, 3] {
                let found: Vec<_> = suggestions(&all, at_least)
                    .into_iter()
                    .inspect(|one| assert_eq!(one.covers, one.endpoints.len()))
                    .map(|one| (one.pattern, one.endpoints.into_iter().collect()))
                    .collect();
                assert_eq!(found, compared(&all, at_least), "{all:?}");
            }
        }
    }

    /// Comparing each of these domains with each other would take hours.
    #[test]
    fn many_names_with_as_many_labels_as_fit_are_looked_through() {
        let all: Vec<String> = (0..1_500)
            .map(|at| {
                let deep = "a.".repeat(110);
                format!("{}.{deep}n{}.example.com:443", at % 3, at / 3)
            })
            .collect();
        let found = suggestions(&all, 3);
        assert_eq!(found.len(), MOST);
        assert_eq!(
            (found[0].pattern.as_str(), found[0].covers),
            ("*.example.com:443", 1_500)
        );
        assert!(found[1..].iter().all(|one| one.covers == 3));
    }
}
