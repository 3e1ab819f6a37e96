//! Rows of "Name and address: what a flow needs" for flows that carry no name, or none that can be read.

use super::*;
use crate::fixture::book_in;
use crate::judge::flow::judge_ping;
use crate::rulebook::{InternalDomains, World};

#[test]
fn flow_row_malformed_is_refused_by_its_protocol() {
    let scene = Scene::block("allowed-endpoints: '*:443'").ticket("a.test", "192.0.2.1");
    for (prefix, reason) in [
        (Prefix::Tls, Reason::MalformedTls),
        (Prefix::Http, Reason::MalformedHttp),
        (Prefix::Quic, Reason::MalformedQuic),
    ] {
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", malformed(prefix))),
            Does::Closes(reason)
        );
    }
}

#[test]
fn flow_row_client_first_bytes_on_80_8000_8080_are_tls_or_http_else_refused() {
    for port in [80, 8000, 8080] {
        let scene = Scene::block(&format!(
            "allowed-endpoints: a.test:{port} 198.51.100.0/24:{port}"
        ))
        .ticket("a.test", "192.0.2.1");
        let to = format!("192.0.2.1:{port}");
        assert_eq!(
            does(&scene.tcp(&to, opaque())),
            Does::Closes(Reason::UnknownProtocol)
        );
        assert_eq!(
            does(&scene.tcp(&to, tls("a.test"))),
            dials("192.0.2.1"),
            "H38: TLS on port 80 is judged as TLS"
        );
        assert_eq!(
            does(&scene.tcp(&to, server_first())),
            dials("192.0.2.1"),
            "a server may still speak first"
        );
        assert_eq!(
            does(&scene.tcp(&format!("198.51.100.1:{port}"), opaque())),
            dials("198.51.100.1"),
            "address row"
        );
    }
    let scene = Scene::block("allowed-endpoints: a.test:9000").ticket("a.test", "192.0.2.1");
    assert_eq!(does(&scene.tcp("192.0.2.1:9000", opaque())), dials("192.0.2.1"));
}

#[test]
fn flow_row_server_first_needs_an_address_endpoint_or_a_ticket_allowed_on_that_port() {
    let scene = Scene::block("allowed-endpoints: '*.a.test:22 192.0.2.128/25:5432'")
        .ticket("b.test", "192.0.2.1")
        .ticket("git.a.test", "192.0.2.1");
    let ruling = scene.tcp("192.0.2.1:22", server_first());
    assert_eq!(does(&ruling), dials("192.0.2.1"), "one allowed name is enough");
    assert_eq!(
        ruling.name,
        Some(name("git.a.test")),
        "and is what the event names"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:2222", server_first())),
        Does::Closes(Reason::NotAllowed)
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.200:5432", opaque())),
        dials("192.0.2.200")
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.200:22", opaque())),
        Does::Closes(Reason::NoName)
    );
}

#[test]
fn flow_row_server_first_with_an_old_cache_is_confirmed_by_exact_names_only() {
    let policy = "allowed-endpoints: 'git.test:22 *.wild.test:22 denied.test:22 other.test:443'\ndenied-endpoints: denied.test";
    let scene = Scene::block(policy);
    let ruling = scene.tcp("192.0.2.1:22", server_first());
    assert_eq!(does(&ruling), confirms(&["git.test"]));
    let Route::Confirm { permit, otherwise } = &ruling.route else {
        panic!("{ruling:?}")
    };
    assert_eq!(does(otherwise), Does::Closes(Reason::NoName));
    assert_eq!(permit.confirm(&[ip("192.0.2.9")]), None);
    let dial = permit.confirm(&[ip("192.0.2.9"), ip("192.0.2.1")]).unwrap();
    assert_eq!((dial.address(), dial.port()), (ip("192.0.2.1"), 22));
    assert_eq!(permit.rule_of(&name("git.test")).unwrap().text(), "git.test:22");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:25", server_first())),
        Does::Closes(Reason::NoName),
        "no exact name on 25"
    );
}

#[test]
fn flow_row_an_old_cache_does_not_confirm_a_private_address_of_a_public_name() {
    let policy = "allowed-endpoints: git.test:22 git.corp.test:22";
    let world = World {
        internal: internal("corp.test"),
        ..World::default()
    };
    let scene = Scene::new(book_in(world, policy));
    assert_eq!(
        does(&scene.tcp("10.0.0.1:22", server_first())),
        confirms(&["git.corp.test"])
    );
}

#[test]
fn flow_row_confirmation_is_bounded() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n}.test:22")).collect();
    let scene = Scene::block(&format!("allowed-endpoints: {}", names.join(" ")));
    let Does::Confirms(asked) = does(&scene.tcp("192.0.2.1:22", server_first())) else {
        panic!()
    };
    assert_eq!(asked.len(), crate::judge::flow::MAX_CONFIRM);
}

#[test]
fn flow_row_direct_to_an_address_no_answer_gave_needs_an_address_endpoint() {
    let scene = Scene::block("allowed-endpoints: '*.a.test:443 192.0.2.7:443'");
    for detection in [tls_without_sni(), opaque(), server_first()] {
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", detection.clone())),
            Does::Closes(Reason::NoName),
            "L01 {detection:?}"
        );
        assert_eq!(does(&scene.tcp("192.0.2.7:443", detection)), dials("192.0.2.7"));
    }
}

#[test]
fn flow_row_udp_other_than_dns_and_quic_needs_a_udp_endpoint() {
    let scene = Scene::block("allowed-endpoints: 'ntp.test:123/udp a.test:443 192.0.2.64/26:9/udp'")
        .ticket("ntp.test", "192.0.2.1")
        .ticket("a.test", "192.0.2.1");
    assert_eq!(does(&scene.udp("192.0.2.1:123")), dials("192.0.2.1"));
    assert_eq!(
        does(&scene.udp("192.0.2.1:443")),
        Does::Closes(Reason::NotAllowed),
        "plain host:443 is judged QUIC only"
    );
    assert_eq!(does(&scene.udp("192.0.2.70:9")), dials("192.0.2.70"));
    assert_eq!(
        does(&scene.udp("192.0.2.70:10")),
        Does::Closes(Reason::NoName),
        "L03"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:123", server_first())),
        Does::Closes(Reason::NotAllowed),
        "and no TCP"
    );
}

#[test]
fn flow_row_quic_is_covered_by_the_plain_endpoint_and_by_udp() {
    let scene = Scene::block("allowed-endpoints: 'a.test:443 b.test:443/udp'")
        .ticket("a.test", "192.0.2.1")
        .ticket("b.test", "192.0.2.2");
    assert_eq!(does(&scene.quic("192.0.2.1:443", "a.test")), dials("192.0.2.1"));
    assert_eq!(does(&scene.quic("192.0.2.2:443", "b.test")), dials("192.0.2.2"));
    assert_eq!(
        does(&scene.tcp("192.0.2.2:443", tls("b.test"))),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_icmp_needs_the_key_and_a_ticketed_or_covered_address() {
    let with = |icmp: bool| {
        Scene::block(&format!(
            "icmp: {icmp}\nallowed-endpoints: a.test:443 198.51.100.0/24:443\ndenied-endpoints: 198.51.100.66"
        ))
        .ticket("a.test", "192.0.2.1")
        .ticket("gone.test", "192.0.2.2")
    };
    let ping = |scene: &Scene, address: &str| does(&judge_ping(&scene.book, ip(address), scene.evidence()));
    let yes = with(true);
    assert_eq!(ping(&yes, "192.0.2.1"), dials("192.0.2.1"));
    assert_eq!(ping(&yes, "198.51.100.1"), dials("198.51.100.1"));
    assert_eq!(
        ping(&yes, "192.0.2.2"),
        Does::Closes(Reason::Icmp),
        "a ticket for a name that is no longer allowed"
    );
    assert_eq!(ping(&yes, "192.0.2.3"), Does::Closes(Reason::Icmp));
    assert_eq!(ping(&yes, "198.51.100.66"), Does::Closes(Reason::Denied));
    assert_eq!(ping(&yes, "127.0.0.1"), Does::Closes(Reason::NeverDial));
    assert_eq!(ping(&with(false), "192.0.2.1"), Does::Closes(Reason::Icmp));
    let audit = Scene::block("egress-policy: audit");
    assert_eq!(
        ping(&audit, "192.0.2.3"),
        Does::Observes(ip("192.0.2.3"), Reason::Icmp)
    );
    assert_eq!(ping(&audit, "169.254.169.254"), Does::Closes(Reason::NeverDial));
}

#[test]
fn flow_row_private_ranges_need_an_address_endpoint_like_any_other() {
    let scene = Scene::block("allowed-endpoints: 10.20.0.0/16:5432");
    assert_eq!(
        does(&scene.tcp("10.20.1.1:5432", server_first())),
        dials("10.20.1.1")
    );
    assert_eq!(
        does(&scene.tcp("10.21.1.1:5432", server_first())),
        Does::Closes(Reason::NoName)
    );
}

#[test]
fn flow_row_silence_and_timeouts_are_refusals_unless_an_address_endpoint_covers() {
    let scene =
        Scene::block("allowed-endpoints: a.test:443 198.51.100.0/24:443").ticket("a.test", "192.0.2.1");
    for (prefix, reason) in [
        (Prefix::Nothing, Reason::Silent),
        (Prefix::Tls, Reason::DetectTimeout),
        (Prefix::Http, Reason::DetectTimeout),
        (Prefix::Quic, Reason::DetectTimeout),
    ] {
        let detection = || Detection::Undecided { prefix };
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", detection())),
            Does::Closes(reason)
        );
        assert_eq!(
            does(&scene.tcp("198.51.100.1:443", detection())),
            dials("198.51.100.1")
        );
    }
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", Detection::Opaque(OpaqueReason::Closed))),
        dials("192.0.2.1"),
        "T64: the opaque row is asked before anything was sent, and permits"
    );
}

fn internal(domain: &str) -> InternalDomains {
    InternalDomains::new(vec![crate::endpoint::NamePattern::exact(&name(domain))])
}
