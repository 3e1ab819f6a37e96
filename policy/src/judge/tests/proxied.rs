//! The row "CONNECT or absolute-form to a forward proxy".

use super::*;
use crate::judge::flow::{ProxyTarget, judge_proxied, judge_tunnelled};

const POLICY: &str = "allowed-endpoints: 'proxy.test:3128 10.9.0.1:3128 a.test:443 a.test:80 192.0.2.7:443'\ndenied-endpoints: bad.a.test 192.0.2.9";

fn target(host: &str, port: u16) -> ProxyTarget {
    let host = host
        .parse()
        .map_or_else(|_| HttpHost::Name(name(host)), HttpHost::Address);
    ProxyTarget { host, port }
}

fn connect(scene: &Scene, proxy: &str, host: &str, port: u16) -> Does {
    does(&judge_proxied(
        &scene.book,
        tcp(proxy),
        &target(host, port),
        scene.evidence(),
    ))
}

#[test]
fn flow_row_connect_needs_the_proxy_and_the_target() {
    let scene = Scene::block(POLICY)
        .ticket("proxy.test", "192.0.2.30")
        .ticket("a.test", "192.0.2.1");
    assert_eq!(
        connect(&scene, "192.0.2.30:3128", "a.test", 443),
        dials("192.0.2.30"),
        "by its own ticket"
    );
    assert_eq!(
        connect(&scene, "10.9.0.1:3128", "a.test", 443),
        dials("10.9.0.1"),
        "by an address endpoint"
    );
    assert_eq!(
        connect(&scene, "10.9.0.1:3128", "192.0.2.7", 443),
        dials("10.9.0.1")
    );
    for (proxy, host, port, reason) in [
        ("10.9.0.1:3128", "e.test", 443, Reason::NotAllowed),
        ("10.9.0.1:3128", "a.test", 22, Reason::NotAllowed),
        ("10.9.0.1:3128", "bad.a.test", 443, Reason::Denied),
        ("10.9.0.1:3128", "192.0.2.9", 443, Reason::Denied),
        ("10.9.0.1:3128", "192.0.2.8", 443, Reason::NoName),
        ("10.9.0.1:3128", "169.254.169.254", 80, Reason::NeverDial),
        ("192.0.2.31:3128", "a.test", 443, Reason::ProxyRequest),
    ] {
        assert_eq!(
            connect(&scene, proxy, host, port),
            Does::Closes(reason),
            "{host}:{port} through {proxy}"
        );
    }
    let absent = ProxyTarget {
        host: HttpHost::Absent,
        port: 443,
    };
    let ruling = judge_proxied(&scene.book, tcp("10.9.0.1:3128"), &absent, scene.evidence());
    assert_eq!(does(&ruling), Does::Closes(Reason::ProxyRequest));
}

#[test]
fn flow_row_connect_h25_an_origin_that_is_allowed_is_not_thereby_a_proxy_on_that_port() {
    let scene = Scene::block(POLICY).ticket("a.test", "192.0.2.1");
    // a.test:80 is allowed, so as far as policy goes it may be asked; what it may not be asked is e.test.
    assert_eq!(
        connect(&scene, "192.0.2.1:80", "e.test", 443),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn flow_row_connect_the_inner_stream_is_judged_anew() {
    let scene = Scene::block(POLICY);
    let inner = |detection: &Detection| {
        let ruling = judge_tunnelled(
            &scene.book,
            tcp("10.9.0.1:3128"),
            &target("a.test", 443),
            detection,
            scene.evidence(),
        );
        does(&ruling)
    };
    assert_eq!(inner(&tls("a.test")), dials("10.9.0.1"));
    assert_eq!(
        inner(&server_first()),
        dials("10.9.0.1"),
        "a stream without a name is what the target was allowed for"
    );
    assert_eq!(
        inner(&tls("e.test")),
        Does::Closes(Reason::NotAllowed),
        "though the proxy's address is covered"
    );
    assert_eq!(inner(&tls("bad.a.test")), Does::Closes(Reason::Denied));
    assert_eq!(inner(&malformed(Prefix::Tls)), Does::Closes(Reason::ProxyRequest));
    assert_eq!(
        inner(&Detection::Undecided { prefix: Prefix::Tls }),
        Does::Closes(Reason::DetectTimeout)
    );
    assert_eq!(inner(&tls_with_ech("a.test", 3)), dials("10.9.0.1"));
    scene.book.world.ech.note_name(&name("a.test"), &[3]);
    assert_eq!(inner(&tls_with_ech("a.test", 3)), Does::Closes(Reason::Ech));
    assert_eq!(
        inner(&Detection::Tls(Hello {
            ech: Ech::Esni,
            ..hello("a.test")
        })),
        Does::Closes(Reason::Ech)
    );
}

#[test]
fn flow_row_connect_audit_lets_through_and_the_global_block_list_does_not() {
    let world = crate::fixture::world("evil.test");
    let scene = Scene::new(crate::fixture::book_in(world, "egress-policy: audit"));
    assert_eq!(
        connect(&scene, "10.9.0.1:3128", "a.test", 443),
        Does::Observes(ip("10.9.0.1"), Reason::ProxyRequest)
    );
    assert_eq!(
        connect(&scene, "10.9.0.1:3128", "evil.test", 443),
        Does::Closes(Reason::GlobalBlock)
    );
    let inner = judge_tunnelled(
        &scene.book,
        tcp("10.9.0.1:3128"),
        &target("a.test", 443),
        &tls("evil.test"),
        scene.evidence(),
    );
    assert_eq!(does(&inner), Does::Closes(Reason::GlobalBlock));
}

/// Invariants 5 and 8: a name that becomes globally blocked ends what is open towards it.
#[test]
fn flow_row_connect_a_target_or_proxy_that_is_globally_blocked_by_now_stands_no_more() {
    let policy = "allowed-endpoints: 'proxy.test:3128 evil.test:3128 evil.test:443 a.test:443'";
    for mode in ["block", "audit"] {
        let world = crate::fixture::world("evil.test");
        let scene = Scene::new(crate::fixture::book_in(
            world,
            &format!("egress-policy: {mode}\n{policy}"),
        ))
        .ticket("proxy.test", "192.0.2.30");
        let inside = |proxy: &str, host: &str| {
            let target = target(host, 443);
            does(&judge_tunnelled(
                &scene.book,
                tcp(proxy),
                &target,
                &tls("a.test"),
                scene.evidence(),
            ))
        };
        assert_eq!(inside("192.0.2.30:3128", "a.test"), dials("192.0.2.30"));
        assert_eq!(
            inside("192.0.2.30:3128", "evil.test"),
            Does::Closes(Reason::GlobalBlock),
            "{mode}"
        );
    }
    let scene = Scene::new(crate::fixture::book_in(
        crate::fixture::world("evil.test"),
        policy,
    ))
    .ticket("evil.test", "192.0.2.66");
    assert_eq!(
        connect(&scene, "192.0.2.66:3128", "a.test", 443),
        Does::Closes(Reason::ProxyRequest)
    );
}
