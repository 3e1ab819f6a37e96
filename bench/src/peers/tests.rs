//! That all peers are given the same names and addresses, as their configurations say.

#![allow(clippy::unwrap_used, reason = "a test may end by panic")]

use std::path::PathBuf;

use super::*;
use crate::cast;

const ONE: Setting = Setting { cores: 1, leases: 1 };
const TWO: Setting = Setting { cores: 2, leases: 1 };

fn programs() -> Programs {
    Programs {
        this: PathBuf::from("/bench"),
        envoy: PathBuf::from("/envoy"),
    }
}

fn text(peer: Peer, setting: &Setting) -> String {
    let launches = peer.launches(setting, &programs());
    let texts = launches.iter().flat_map(|launch| &launch.files);
    texts.map(|(_, text)| text.as_str()).collect()
}

fn peers() -> impl Iterator<Item = Peer> {
    let all = Peer::value_variants().iter().copied();
    all.filter(|peer| !peer.is_ours() && !matches!(peer, Peer::Echo | Peer::Relay | Peer::UnboundOpen))
}

#[test]
fn every_peer_has_the_whole_allowlist_and_nothing_else() {
    for peer in peers() {
        let text = text(peer, &ONE);
        let names = cast::names(cast::ALLOWED_NAMES);
        let missing = names.iter().find(|name| !text.contains(name.as_str()));
        assert_eq!(missing, None, "{peer:?}");
        assert_eq!(text.matches(".bench.test").count(), names.len(), "{peer:?}");
        assert!(!text.contains("other-"), "{peer:?}");
    }
}

#[test]
fn every_peer_stands_where_tidegate_stood() {
    for peer in peers() {
        let text = text(peer, &ONE);
        let resolves = subjects(Part::Dns, &[]).contains(&peer);
        let wanted = if resolves {
            &["10.77.1.1", "198.51.100.53"][..]
        } else {
            &["7453"]
        };
        for wanted in wanted {
            assert!(text.contains(wanted), "{peer:?}: {wanted}");
        }
    }
}

#[test]
fn a_second_core_changes_every_peer_that_has_threads() {
    for peer in peers().filter(|peer| !peer.one_thread()) {
        assert_ne!(
            peer.launches(&ONE, &programs()),
            peer.launches(&TWO, &programs()),
            "{peer:?}"
        );
    }
    assert_eq!(Peer::Knot.launches(&TWO, &programs()).len(), 2);
}

#[test]
fn tidegate_gets_a_lease_for_each_source() {
    let config = "gateway:\n  events: {file: e}\n  metrics: {listen: m}\n  static-leases:\n    - {sources: [10.77.1.2]}\n";
    let text = render::tidegate(config, 300, Peer::Tidegate);
    assert!(text.contains("events:"));
    assert_eq!(text.matches("policy: job.yaml").count(), 300);
    assert!(text.contains("[10.78.1.50]"), "the three hundredth");
    let quiet = render::tidegate(config, 0, Peer::TidegateQuiet);
    assert!(!quiet.contains("events:") && quiet.contains("metrics:"));
    let bare = render::tidegate(config, 0, Peer::TidegateBare);
    assert!(!bare.contains("events:") && !bare.contains("metrics:"));
}

#[test]
fn subjects_are_the_usual_ones_or_those_wanted() {
    assert_eq!(subjects(Part::Dns, &[]).len(), 9);
    let wanted = [Peer::Envoy, Peer::Tidegate, Peer::UnboundOpen];
    assert_eq!(subjects(Part::Flows, &wanted), [Peer::Tidegate, Peer::Envoy]);
    assert_eq!(subjects(Part::Dns, &wanted), [Peer::Tidegate, Peer::UnboundOpen]);
}

#[test]
fn a_peer_that_is_not_there_is_named() {
    let error = programs().versions(&[Peer::Envoy]).unwrap_err().to_string();
    assert!(
        error.starts_with("Envoy is not installed") && error.contains("--peers"),
        "{error}"
    );
}
