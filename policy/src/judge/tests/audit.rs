//! Invariant 6: audit is inert; and what holds whatever a policy says.

use proptest::prelude::*;

use super::reference::{ADDRESSES, NAMES, Plain, flow, plain};
use super::*;
use crate::judge::flow::{
    ProxyTarget, judge_bare_address, judge_name, judge_ping, judge_proxied, judge_tunnelled,
};
use crate::judge::permit::DialPermit;
use crate::judge::query::{PointerRuling, judge_pointer};
use crate::special::is_never_dial;

const ABSOLUTE: [Reason; 2] = [Reason::GlobalBlock, Reason::NeverDial];

fn rulings(scene: &Scene, flow: Flow, detection: &Detection, target: &ProxyTarget) -> [FlowRuling; 4] {
    [
        judge_flow(&scene.book, flow, detection, scene.evidence()),
        judge_proxied(&scene.book, flow, target, scene.evidence()),
        judge_tunnelled(&scene.book, flow, target, detection, scene.evidence()),
        judge_ping(&scene.book, flow.address, scene.evidence()),
    ]
}

/// Every dial that a ruling can lead to, if each lookup gives every address there is.
fn dials_of(ruling: &FlowRuling, book: &Rulebook) -> Vec<DialPermit> {
    let everything: Vec<IpAddr> = ADDRESSES.iter().map(|address| ip(address)).collect();
    match &ruling.route {
        Route::Closed => Vec::new(),
        Route::Dial(permit) => vec![permit.clone()],
        Route::Resolve(permit) => everything
            .iter()
            .filter_map(|one| permit.dial(book, *one).ok())
            .collect(),
        Route::Confirm { permit, otherwise } => permit
            .confirm(&everything)
            .into_iter()
            .chain(dials_of(otherwise, book))
            .collect(),
    }
}

/// The judgement without its mode: a rule, or a reason.
fn said(judgement: &Judgement) -> Result<String, Reason> {
    match judgement {
        Judgement::Permit(_) => Ok(rule(judgement).into()),
        Judgement::Refuse(refusal) | Judgement::WouldRefuse(refusal) => Err(refusal.reason),
    }
}

fn target() -> impl Strategy<Value = ProxyTarget> {
    let named = prop::sample::select(&NAMES[..]).prop_map(|one| HttpHost::Name(name(one)));
    let address = prop::sample::select(&ADDRESSES[..]).prop_map(|one| HttpHost::Address(ip(one)));
    (
        prop_oneof![3 => named, 1 => address],
        prop::sample::select(&[22_u16, 80, 443][..]),
    )
        .prop_map(|(host, port)| ProxyTarget { host, port })
}

fn both(plain: &Plain) -> (Scene, Scene) {
    (plain.scene("block"), plain.scene("audit"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn audit_closes_nothing_but_what_is_globally_blocked_or_never_dialled(
        plain in plain(), (flow, detection) in flow(), target in target()
    ) {
        let (_, audit) = both(&plain);
        for ruling in rulings(&audit, flow, &detection, &target) {
            match (&ruling.route, &ruling.judgement) {
                (Route::Closed, Judgement::Refuse(refusal)) => prop_assert!(ABSOLUTE.contains(&refusal.reason)),
                (Route::Closed, other) => prop_assert!(false, "closed by {other:?}"),
                (Route::Dial(permit), Judgement::Permit(_) | Judgement::WouldRefuse(_)) => {
                    prop_assert_eq!(permit.address(), flow.address.to_canonical(), "the address that the client chose");
                }
                (Route::Confirm { otherwise, .. }, Judgement::Permit(_)) => {
                    prop_assert_eq!(dials_of(otherwise, &audit.book).len(), 1, "let through all the same");
                }
                (route, judgement) => prop_assert!(false, "{route:?} by {judgement:?}"),
            }
        }
    }

    #[test]
    fn audit_records_what_block_would_do(plain in plain(), (flow, detection) in flow(), target in target()) {
        let (block, audit) = both(&plain);
        let blocked = rulings(&block, flow, &detection, &target);
        for (one, other) in blocked.iter().zip(&rulings(&audit, flow, &detection, &target)) {
            prop_assert_eq!(said(&one.judgement), said(&other.judgement));
            prop_assert_eq!(&one.name, &other.name);
            prop_assert_eq!(one.name_source, other.name_source);
            if let (Route::Confirm { otherwise: one, .. }, Route::Confirm { otherwise: other, .. }) = (&one.route, &other.route) {
                prop_assert_eq!(said(&one.judgement), said(&other.judgement));
            }
        }
        for qtype in [rtype::A, rtype::TXT, rtype::DS, rtype::ANY, rtype::SRV, 65_280] {
            for asked in NAMES.iter().map(|one| String::from(*one)).chain([String::from("_x._tcp.a.test"), "a.test.c.example".into()]) {
                let (one, other) = (block.ask_type(&asked, qtype), audit.ask_type(&asked, qtype));
                prop_assert_eq!(said(&one.judgement), said(&other.judgement), "{} {}", asked, qtype);
                let resolves = matches!(other.action, QueryAction::Resolve(_));
                prop_assert_eq!(resolves, said(&other.judgement) != Err(Reason::GlobalBlock), "{}", asked);
                if let (QueryAction::Resolve(one), QueryAction::Resolve(other)) = (&one.action, &other.action) {
                    prop_assert_eq!(one.owner(), other.owner(), "tickets go where block would put them");
                }
            }
        }
        for asked in NAMES {
            let explain = |book| said(&judge_name(book, &name(asked), flow.port, flow.transport));
            prop_assert_eq!(explain(&block.book), explain(&audit.book));
        }
        let explain = |book| said(&judge_bare_address(book, flow.address, flow.port, flow.transport));
        prop_assert_eq!(explain(&block.book), explain(&audit.book));
    }

    /// Steps 1 to 3 on whatever is dialled in the end, whatever is asked and answered.
    #[test]
    fn no_dial_permit_is_ever_given_for_what_is_never_dialled_blocked_or_denied(
        plain in plain(), (flow, detection) in flow(), target in target()
    ) {
        for mode in ["block", "audit"] {
            let scene = plain.scene(mode);
            for ruling in rulings(&scene, flow, &detection, &target) {
                for dial in dials_of(&ruling, &scene.book) {
                    prop_assert!(!is_never_dial(dial.address()), "{dial:?}");
                    let blocked = crate::judge::answer::judge_global(&scene.book, dial.address());
                    prop_assert!(blocked.is_ok(), "{dial:?}");
                    if mode == "block" && dial.port() != 0 {
                        let bare = judge_bare_address(&scene.book, dial.address(), dial.port(), dial.transport());
                        prop_assert_ne!(said(&bare), Err(Reason::Denied), "{:?}", dial);
                    }
                }
            }
        }
    }

    /// `explain` agrees with the flow that it explains: a name at its own, ticketed address.
    #[test]
    fn explaining_a_name_says_what_its_own_flow_would_get(plain in plain(), asked in prop::sample::select(&NAMES[..])) {
        let scene = Plain { tickets: vec![], ech: vec![], ..plain }.scene("block").ticket(asked, "198.51.100.1");
        let explained = judge_name(&scene.book, &name(asked), 443, Transport::Tcp);
        let address_rules = judge_bare_address(&scene.book, ip("198.51.100.1"), 443, Transport::Tcp);
        let flow = scene.tcp("198.51.100.1:443", tls(asked));
        if said(&address_rules) == Err(Reason::NoName) {
            prop_assert_eq!(said(&explained), said(&flow.judgement));
        }
    }

    /// A PTR question is refused, answered from tickets or asked upstream, and only audit asks for strangers.
    #[test]
    fn pointers_of_strangers_are_not_asked_upstream(plain in plain(), address in prop::sample::select(&ADDRESSES[..])) {
        let scene = plain.scene("block");
        let asked = name("1.2.0.192.in-addr.arpa");
        let ruling = judge_pointer(&scene.book, &asked, ip(address), &scene.tickets, NOW);
        if let PointerRuling::Forward(..) = &ruling {
            prop_assert!(crate::special::is_not_public(ip(address)), "{ruling:?}");
        }
        prop_assert!(!matches!(ruling, PointerRuling::Observe(_)));
    }
}
