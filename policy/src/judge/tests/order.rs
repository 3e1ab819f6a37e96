//! Rows of "Order of decision".

use std::sync::Arc;

use super::*;
use crate::fixture::{book_in, pack, policy_with, world};
use crate::job::Scope;
use crate::judge::answer::{judge_address, judge_chain};
use crate::judge::flow::judge_arrival;
use crate::rulebook::{Governing, World};
use crate::special::NeverDial;

const OPEN: &str = "allowed-endpoints: |\n  *:443\n  *:80\n  0.0.0.0/0:443\n  [::/0]:443";

#[test]
fn order_step_1_never_dial_is_not_overridable_in_block_or_audit_in_any_spelling() {
    for policy in [OPEN.to_owned(), format!("egress-policy: audit\n{OPEN}")] {
        let own = NeverDial::new([ip("198.51.100.1")]);
        let scene = Scene::new(book_in(
            World {
                never_dial: own,
                ..World::default()
            },
            &policy,
        ));
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "::",
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "168.63.129.16",
            "224.0.0.1",
            "240.0.0.1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "198.51.100.1",
            "::ffff:198.51.100.1",
        ] {
            let scene = Scene::new(book_in(
                World {
                    never_dial: scene.book.world.never_dial.clone(),
                    ..World::default()
                },
                &policy,
            ))
            .ticket("a.test", address);
            let to = std::net::SocketAddr::new(ip(address), 443).to_string();
            assert_eq!(
                does(&scene.tcp(&to, tls("a.test"))),
                Does::Closes(Reason::NeverDial),
                "{address}"
            );
            assert_eq!(
                does(&scene.tcp(&to, server_first())),
                Does::Closes(Reason::NeverDial),
                "{address}"
            );
            assert_eq!(
                judge_arrival(&scene.book, tcp(&to)).unwrap_err().reason,
                Reason::NeverDial
            );
        }
    }
}

#[test]
fn order_step_2_the_global_block_list_comes_first_audit_included() {
    let blocked = "evil.test\n*.blocked.test\n203.0.113.0/24";
    for (policy, verdict) in [
        (OPEN.to_owned(), "block"),
        (format!("egress-policy: audit\n{OPEN}"), "audit"),
    ] {
        let scene = Scene::new(book_in(world(blocked), &policy)).ticket("evil.test", "192.0.2.1");
        let refused = Does::Closes(Reason::GlobalBlock);
        assert_eq!(
            answers(&scene.ask("evil.test")),
            Answers::Refused(Reason::GlobalBlock),
            "{verdict}"
        );
        assert_eq!(
            answers(&scene.ask("a.b.blocked.test")),
            Answers::Refused(Reason::GlobalBlock),
            "{verdict}"
        );
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", tls("evil.test"))),
            refused,
            "{verdict}"
        );
        assert_eq!(
            does(&scene.tcp("192.0.2.9:80", http("x.blocked.test"))),
            refused,
            "{verdict}"
        );
        assert_eq!(
            does(&scene.quic("192.0.2.9:443", "evil.test")),
            refused,
            "{verdict}"
        );
        assert_eq!(
            does(&scene.tcp("203.0.113.9:443", tls("ok.test"))),
            refused,
            "{verdict}"
        );
        assert_eq!(
            does(&scene.tcp("[64:ff9b::203.0.113.9]:443", tls("ok.test"))),
            refused,
            "{verdict}"
        );
        assert_eq!(
            does(&scene.tcp("192.0.2.9:80", http_to_address("203.0.113.9"))),
            refused,
            "{verdict}"
        );
        let ruling = scene.tcp("192.0.2.1:443", tls("evil.test"));
        assert_eq!(
            (rule(&ruling.judgement), ruling.judgement.verdict()),
            ("evil.test", Verdict::Refuse)
        );
    }
}

#[test]
fn order_step_2_counts_for_every_name_of_a_chain_and_every_address() {
    let scene = Scene::new(book_in(world("evil.test\n203.0.113.0/24"), OPEN));
    let chain = [name("edge.test"), name("evil.test")];
    assert_eq!(
        judge_chain(&scene.book, &chain).unwrap_err().reason,
        Reason::GlobalBlock
    );
    assert!(judge_chain(&scene.book, &chain[..1]).is_ok());
    let refused = judge_address(&scene.book, &name("a.test"), &[], ip("203.0.113.1")).unwrap_err();
    assert_eq!(
        (refused.reason, refused.rule.unwrap().text().to_owned()),
        (Reason::GlobalBlock, "203.0.113.0/24".into())
    );
}

#[test]
fn order_step_2_a_flow_without_a_name_is_refused_when_all_it_is_known_by_is_blocked() {
    let scene =
        Scene::new(book_in(world("evil.test"), "egress-policy: audit")).ticket("evil.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:22", server_first())),
        Does::Closes(Reason::GlobalBlock)
    );
    let shared = scene.ticket("good.test", "192.0.2.1");
    assert_eq!(
        does(&shared.tcp("192.0.2.1:22", server_first())),
        Does::Observes(ip("192.0.2.1"), Reason::NotAllowed)
    );
    let scene = Scene::new(book_in(world("evil.test"), "allowed-endpoints: '*:22 *:443'"))
        .ticket("good.test", "192.0.2.1")
        .ticket("evil.test", "192.0.2.1");
    assert_eq!(
        does(&scene.tcp("192.0.2.1:22", server_first())),
        dials("192.0.2.1"),
        "the other name stands"
    );
    let unnamed = scene.tcp("192.0.2.1:443", tls_without_sni());
    assert_eq!(
        does(&unnamed),
        Does::Closes(Reason::GlobalBlock),
        "it could have named the one it wants"
    );
}

#[test]
fn order_step_3_denied_endpoints_refuse_even_if_allowed() {
    let policy = "allowed-endpoints: '*.test:443 192.0.2.0/24:443 a.test:22'\ndenied-endpoints: |\n  bad.test\n  half.test:443\n  192.0.2.66";
    let scene = Scene::block(policy)
        .ticket("ok.test", "192.0.2.66")
        .ticket("ok.test", "198.51.100.7");
    assert_eq!(answers(&scene.ask("bad.test")), Answers::Refused(Reason::Denied));
    assert_eq!(
        answers(&scene.ask("half.test")),
        Answers::Refused(Reason::Denied),
        "nothing is left of it"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.1:443", tls("bad.test"))),
        Does::Closes(Reason::Denied),
        "at an allowed address"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.66:443", tls("ok.test"))),
        Does::Closes(Reason::Denied),
        "the address"
    );
    assert_eq!(
        does(&scene.tcp("192.0.2.66:22", server_first())),
        Does::Closes(Reason::Denied),
        "every port of it"
    );
    let ruling = scene.tcp("192.0.2.1:443", tls("bad.test"));
    assert_eq!(rule(&ruling.judgement), "bad.test");
    let refused = judge_address(&scene.book, &name("ok.test"), &[], ip("192.0.2.66")).unwrap_err();
    assert_eq!(refused.reason, Reason::Denied);
    assert_eq!(
        does(&scene.tcp("198.51.100.7:443", tls("ok.test"))),
        dials("198.51.100.7")
    );
}

#[test]
fn order_step_4_allowed_endpoints_and_used_sets_permit() {
    let text = "allowed-endpoints: own.test:443\nuse: [corp-base]";
    let governing = Governing::Policy(
        policy_with("p", text, &[("corp-base", "endpoints: [set.test:443]")]),
        Scope::Organization("acme".into()),
    );
    let scene = Scene::new(Rulebook {
        world: Arc::default(),
        governing,
        host: None,
    });
    for (asked, source) in [("own.test", "policy"), ("set.test", "set")] {
        let ruling = scene.ask(asked);
        assert_eq!(answers(&ruling), resolved(asked));
        assert_eq!(ruling.judgement.rule().unwrap().source().kind(), source);
    }
}

#[test]
fn order_step_5_the_platform_pack_permits_unless_denied_or_turned_off() {
    let runner = "pipelines.actions.githubusercontent.com";
    let with = Scene::block("egress-policy: block\nplatform: github-actions");
    let ruling = with.ask(runner);
    assert_eq!(answers(&ruling), resolved(runner));
    assert_eq!(ruling.judgement.rule().unwrap().source().kind(), "platform");
    let denied = Scene::block(&format!("platform: github-actions\ndenied-endpoints: {runner}"));
    assert_eq!(answers(&denied.ask(runner)), Answers::Refused(Reason::Denied));
    let without = Scene::block("egress-policy: block\nplatform: none");
    assert_eq!(
        answers(&without.ask(runner)),
        Answers::Refused(Reason::NotAllowed)
    );
}

#[test]
fn order_step_5_the_networks_always_allow_list_permits_after_denials() {
    let mut book = crate::fixture::book("denied-endpoints: gist.github.com");
    book.host = Some(pack());
    let scene = Scene::new(book);
    assert_eq!(
        answers(&scene.ask("pipelines.actions.githubusercontent.com")),
        resolved("pipelines.actions.githubusercontent.com")
    );
    assert_eq!(
        answers(&scene.ask("gist.github.com")),
        Answers::Refused(Reason::Denied)
    );
}

#[test]
fn order_step_6_nothing_matched_refuses_in_block_and_would_refuse_in_audit() {
    let block = Scene::block("allowed-endpoints: api.github.com:443");
    let ruling = block.tcp("192.0.2.1:443", tls("gist.github.com"));
    assert_eq!(does(&ruling), Does::Closes(Reason::NotAllowed));
    let nearest = ruling.judgement.refusal().unwrap().nearest.find().unwrap();
    assert_eq!(nearest.text(), "api.github.com:443");
    let audit = Scene::block("egress-policy: audit\nallowed-endpoints: api.github.com:443");
    let ruling = audit.tcp("192.0.2.1:443", tls("gist.github.com"));
    assert_eq!(does(&ruling), Does::Observes(ip("192.0.2.1"), Reason::NotAllowed));
}

#[test]
fn order_row_the_address_actually_dialled_is_checked_against_steps_1_to_3() {
    let policy = "allowed-endpoints: '*.test:443 *.corp.test:8443'\ndenied-endpoints: '198.51.100.0/24:443/udp 192.0.2.66 192.0.2.99:443'";
    let world = World {
        never_dial: NeverDial::new([ip("192.0.2.200")]),
        ..world("203.0.113.0/24")
    };
    let scene = Scene::new(book_in(world, policy));
    let ruling = scene.tcp("192.0.2.1:443", tls("a.test"));
    let Route::Resolve(permit) = &ruling.route else {
        panic!("{ruling:?}")
    };
    for (address, wanted) in [
        ("192.0.2.10", Ok(())),
        ("198.51.100.1", Ok(())),
        ("127.0.0.1", Err(Reason::NeverDial)),
        ("192.0.2.200", Err(Reason::NeverDial)),
        ("203.0.113.5", Err(Reason::GlobalBlock)),
        ("192.0.2.66", Err(Reason::Denied)),
        ("192.0.2.99", Err(Reason::Denied)),
        ("10.0.0.1", Err(Reason::Rebinding)),
        ("169.254.169.254", Err(Reason::NeverDial)),
        ("64:ff9b::10.0.0.1", Err(Reason::Rebinding)),
    ] {
        let dialled = permit.dial(&scene.book, ip(address));
        assert_eq!(
            dialled.as_ref().map(|_| ()).map_err(|refusal| refusal.reason),
            wanted,
            "{address}"
        );
        if let Ok(dialled) = dialled {
            assert_eq!(
                (dialled.address(), dialled.port(), dialled.transport()),
                (ip(address), 443, Transport::Tcp)
            );
        }
    }
    let ruling = scene.quic("192.0.2.1:443", "a.test");
    let Route::Resolve(permit) = &ruling.route else {
        panic!("{ruling:?}")
    };
    let refused = permit.dial(&scene.book, ip("198.51.100.1")).unwrap_err();
    assert_eq!(refused.reason, Reason::Denied, "denied to UDP, and QUIC is UDP");
}

#[test]
fn order_row_no_policy_known_is_deny_all_with_its_reason() {
    for reason in [
        Reason::PolicyUnknown,
        Reason::NoPolicy,
        Reason::Quarantined,
        Reason::UnboundSource,
    ] {
        let scene = Scene::new(Rulebook::deny_all(Arc::default(), reason)).ticket("a.test", "192.0.2.1");
        assert_eq!(answers(&scene.ask("a.test")), Answers::Refused(reason));
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", tls("a.test"))),
            Does::Closes(reason)
        );
        assert_eq!(does(&scene.udp("192.0.2.1:123")), Does::Closes(reason));
        assert_eq!(
            does(&scene.tcp("127.0.0.1:80", server_first())),
            Does::Closes(Reason::NeverDial),
            "1 comes first"
        );
    }
}
