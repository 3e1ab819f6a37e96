//! Rows of "Name and address: what a flow needs" for flows that carry a name or could have (the pure
//! part: what `proxy` parses is given).

use super::*;
use crate::fixture::book_in;
use crate::rulebook::{Destination, World};

#[test]
fn flow_row_tls_with_sni_ticketed_is_dialled() {
    let scene = Scene::block("allowed-endpoints: '*.a.test:443'").ticket("www.a.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("www.a.test"))),
        dials("192.0.2.1")
    );
    assert_eq!(
        does(&scene.quic("192.0.2.1:443", "www.a.test")),
        dials("192.0.2.1"),
        "one rule covers QUIC on 443"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:8443", tls("www.a.test"))),
        Does::Closes(Reason::NotAllowed),
        "the port counts"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("a.test"))),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_tls_with_sni_unticketed_is_resolved_by_the_gateway_never_dialled_there() {
    let scene = Scene::block("allowed-endpoints: a.test:443 b.test:443").ticket("b.test", "192.0.2.2");
    for to in ["192.0.2.2:443", "198.51.100.66:443"] {
        assert_eq!(does(&scene.tcp(to, tls("a.test"))), resolves("a.test"));
        assert_eq!(does(&scene.quic(to, "a.test")), resolves("a.test"));
        assert_eq!(
            does(&scene.tcp(to, http("a.test"))),
            resolves("a.test"),
            "Host likewise"
        );
    }
}

#[test]
fn flow_row_tls_with_sni_unticketed_is_refused_under_ticket_only() {
    let world = World {
        destination: Destination::TicketOnly,
        ..World::default()
    };
    let scene = Scene::new(book_in(world, "allowed-endpoints: a.test:443"));
    let ruling = scene.tcp("192.0.2.2:443", tls("a.test"));
    assert_eq!(does(&ruling), Does::Closes(Reason::Unticketed));
    assert_eq!(rule(&ruling.judgement), "a.test:443");
}

#[test]
fn flow_row_tls_an_expired_ticket_is_none_and_proven_evidence_is_one() {
    let scene = Scene::block("allowed-endpoints: a.test:443").ticket("a.test", "192.0.2.1");
    let late = Evidence {
        now: NOW.plus(HOLD),
        ..scene.evidence()
    };
    let flow = tcp("192.0.2.1:443");
    assert_eq!(
        does(&judge_flow(&scene.book, flow, &tls("a.test"), late)),
        resolves("a.test")
    );
    let proven = name("a.test");
    let open = Evidence {
        proven: Some(&proven),
        ..late
    };
    assert_eq!(
        does(&judge_flow(&scene.book, flow, &tls("a.test"), open)),
        dials("192.0.2.1"),
        "an open flow lives on"
    );
    assert_eq!(
        does(&judge_flow(&scene.book, flow, &server_first(), open)),
        dials("192.0.2.1")
    );
}

#[test]
fn flow_row_address_endpoint_permits_at_that_very_address_whatever_name_it_carries() {
    let policy = "allowed-endpoints: '192.0.2.0/24:443 [2001:db8::/32]:443'\ndenied-endpoints: denied.test";
    let scene = Scene::new(book_in(crate::fixture::world("blocked.test"), policy));
    for detection in [
        tls("x.test"),
        http("x.test"),
        tls_without_sni(),
        server_first(),
        opaque(),
        http_to_address("192.0.2.9"),
    ] {
        let ruling = scene.tcp("192.0.2.1:443", detection.clone());
        assert_eq!(does(&ruling), dials("192.0.2.1"), "{detection:?}");
        assert_eq!(rule(&ruling.judgement), "192.0.2.0/24:443");
    }
    assert_eq!(
        does(&scene.tcp("[2001:db8::5]:443", tls("x.test"))),
        dials("2001:db8::5")
    );
    assert_eq!(
        does(&scene.tcp("[::ffff:192.0.2.1]:443", tls("x.test"))),
        dials("192.0.2.1")
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("denied.test"))),
        Does::Closes(Reason::Denied)
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("blocked.test"))),
        Does::Closes(Reason::GlobalBlock)
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:22", server_first())),
        Does::Closes(Reason::NoName),
        "another port"
    );
}

#[test]
fn flow_row_address_endpoint_does_not_permit_a_name_that_hides_where_names_are_denied() {
    let hidden = [
        malformed(Prefix::Tls),
        Detection::Undecided { prefix: Prefix::Http },
        Detection::Tls(Hello {
            sni: Sni::Absent,
            ech: Ech::Esni,
        }),
        Detection::Tls(Hello {
            ech: Ech::Esni,
            ..hello("x.test")
        }),
    ];
    for detection in hidden {
        let open = Scene::block("allowed-endpoints: 192.0.2.0/24:443");
        assert_eq!(
            does(&open.tcp("192.0.2.1:443", detection.clone())),
            dials("192.0.2.1"),
            "{detection:?}"
        );
        let denying = Scene::block("allowed-endpoints: 192.0.2.0/24:443\ndenied-endpoints: gist.test");
        assert!(
            matches!(
                does(&denying.tcp("192.0.2.1:443", detection.clone())),
                Does::Closes(_)
            ),
            "{detection:?}"
        );
    }
}

#[test]
fn flow_row_zero_cidr_permits_addresses_never_names_in_dns() {
    let scene = Scene::block("allowed-endpoints: 0.0.0.0/0:443");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("x.test"))),
        dials("192.0.2.1")
    );
    assert_eq!(
        answers(&scene.ask("x.test")),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_tls_without_sni_needs_every_ticketed_name_allowed() {
    let scene =
        Scene::block("allowed-endpoints: a.test:443 b.test:443 c.test:22").ticket("a.test", "192.0.2.1");
    for sni in [Sni::Absent, Sni::Address(ip("192.0.2.1"))] {
        let detection = || {
            Detection::Tls(Hello {
                sni: sni.clone(),
                ech: Ech::Absent,
            })
        };
        let ruling = scene.tcp("192.0.2.1:443", detection());
        assert_eq!(does(&ruling), dials("192.0.2.1"), "{sni:?}");
        assert_eq!(ruling.name, Some(name("a.test")), "the name that proved it");
    }
    let scene = scene.ticket("b.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_without_sni())),
        dials("192.0.2.1")
    );
    let scene = scene.ticket("c.test", "192.0.2.1");
    let ruling = scene.tcp("192.0.2.1:443", tls_without_sni());
    assert_eq!(
        does(&ruling),
        Does::Closes(Reason::NoName),
        "c.test is not allowed on 443"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.2:443", tls_without_sni())),
        Does::Closes(Reason::NoName),
        "no ticket at all"
    );
}

#[test]
fn flow_row_a_denied_name_is_no_ground_for_a_flow_without_a_name() {
    let scene = Scene::block("allowed-endpoints: '*.test:443 *.test:22'\ndenied-endpoints: bad.test")
        .ticket("bad.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_without_sni())),
        Does::Closes(Reason::NoName)
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:22", server_first())),
        Does::Closes(Reason::NotAllowed)
    );
    let shared = scene.ticket("good.test", "192.0.2.1");
    assert_eq!(
        does(&shared.tcp("192.0.2.1:443", tls_without_sni())),
        Does::Closes(Reason::NoName),
        "it may want the other"
    );
    assert_eq!(
        does(&shared.tcp("192.0.2.1:22", server_first())),
        dials("192.0.2.1")
    );
}

#[test]
fn flow_row_sni_that_is_another_address_stands_for_nothing() {
    let scene = Scene::block("allowed-endpoints: a.test:443").ticket("a.test", "192.0.2.1");
    let other = Detection::Tls(Hello {
        sni: Sni::Address(ip("198.51.100.1")),
        ech: Ech::Absent,
    });
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", other)),
        Does::Closes(Reason::NoName)
    );
}

#[test]
fn flow_row_ech_with_an_unpublished_id_is_judged_by_its_outer_name() {
    let scene = Scene::block("allowed-endpoints: a.test:443").ticket("a.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_with_ech("a.test", 7))),
        dials("192.0.2.1"),
        "T54: GREASE"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_with_ech("e.test", 7))),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_ech_with_a_published_id_is_refused_by_name_and_by_address() {
    let scene = Scene::block("allowed-endpoints: a.test:443").ticket("a.test", "192.0.2.1");
    let ledger = &scene.book.world.ech;
    ledger.note_name(&name("a.test"), &[7]);
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_with_ech("a.test", 7))),
        Does::Closes(Reason::Ech),
        "T55"
    );
    ledger.note_name(&name("e.test"), &[9]);
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_with_ech("a.test", 9))),
        dials("192.0.2.1")
    );
    ledger.note_address(&name("e.test"), ip("192.0.2.1"));
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls_with_ech("a.test", 9))),
        Does::Closes(Reason::Ech)
    );
    let esni = Detection::Tls(Hello {
        ech: Ech::Esni,
        ..hello("a.test")
    });
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", esni)),
        Does::Closes(Reason::Ech),
        "T56"
    );
    let nameless = Detection::Tls(Hello {
        sni: Sni::Absent,
        ech: Ech::Outer { config_id: 9 },
    });
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", nameless)),
        Does::Closes(Reason::Ech)
    );
}

#[test]
fn flow_row_ech_is_judged_at_the_address_that_is_dialled_too() {
    // The client makes up an address at which nothing was seen; the real one is shared with e.test.
    let scene = Scene::block("allowed-endpoints: a.test:443");
    scene.book.world.ech.note_name(&name("e.test"), &[9]);
    scene
        .book
        .world
        .ech
        .note_address(&name("e.test"), ip("192.0.2.1"));
    let ruling = scene.tcp("198.51.100.66:443", tls_with_ech("a.test", 9));
    let Route::Resolve(permit) = &ruling.route else {
        panic!("{ruling:?}")
    };
    assert_eq!(
        permit.dial(&scene.book, ip("192.0.2.1")).unwrap_err().reason,
        Reason::Ech
    );
    assert!(permit.dial(&scene.book, ip("192.0.2.2")).is_ok());
}

#[test]
fn flow_row_http_is_judged_by_authority_and_the_flows_port() {
    let scene = Scene::block("allowed-endpoints: a.test:80").ticket("a.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", http("a.test"))),
        dials("192.0.2.1")
    );
    let differing = Detection::Http(Authority {
        host: HttpHost::Name(name("a.test")),
        port: Some(8443),
    });
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", differing.clone())),
        dials("192.0.2.1"),
        "the flow's port decides"
    );
    let elsewhere = Detection::Http(Authority {
        host: HttpHost::Name(name("a.test")),
        port: Some(80),
    });
    assert_eq!(
        does(&scene.tcp("192.0.2.1:8081", elsewhere)),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_http_a_later_request_with_another_host_is_decided_anew() {
    let scene = Scene::block("allowed-endpoints: a.test:80 b.test:80").ticket("a.test", "192.0.2.1");
    let proven = name("a.test");
    let kept = Evidence {
        proven: Some(&proven),
        ..scene.evidence()
    };
    let flow = tcp("192.0.2.1:80");
    assert_eq!(
        does(&judge_flow(&scene.book, flow, &http("b.test"), kept)),
        resolves("b.test"),
        "its own address"
    );
    assert_eq!(
        does(&judge_flow(&scene.book, flow, &http("e.test"), kept)),
        Does::Closes(Reason::NotAllowed),
        "H20"
    );
}

#[test]
fn flow_row_http_with_an_address_as_host() {
    let scene = Scene::block("allowed-endpoints: a.test:80\ndenied-endpoints: 198.51.100.9")
        .ticket("a.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", http_to_address("192.0.2.1"))),
        dials("192.0.2.1"),
        "H40"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", http_to_address("198.51.100.1"))),
        Does::Closes(Reason::NoName)
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", http_to_address("198.51.100.9"))),
        Does::Closes(Reason::Denied)
    );
}

#[test]
fn flow_row_http_without_host_needs_every_ticketed_name_allowed() {
    let scene = Scene::block("allowed-endpoints: a.test:80").ticket("a.test", "192.0.2.1");
    let absent = || {
        Detection::Http(Authority {
            host: HttpHost::Absent,
            port: None,
        })
    };
    assert_eq!(does(&scene.tcp("192.0.2.1:80", absent())), dials("192.0.2.1"));
    let scene = scene.ticket("b.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:80", absent())),
        Does::Closes(Reason::NoName)
    );
}
