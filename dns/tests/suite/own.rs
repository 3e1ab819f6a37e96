//! The gateway's own name, `tidegate.internal`, and how refusals point to its page.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, block, data, extended_error, name};

/// A bench whose network has the gateway's pages.
fn setup(policy: String) -> Setup {
    let mut setup = Setup::new(policy);
    let pages = vec!["10.77.1.1".parse().unwrap(), "fd77:1::1".parse().unwrap()];
    setup.config.pages = [("runners".into(), pages)].into();
    setup
}

#[tokio::test]
async fn the_gateways_own_name_is_answered_whatever_the_policy_and_never_leaves() {
    for policy in [
        "DENY".to_owned(),
        block("a.test:443") + "denied-endpoints: tidegate.internal\n",
    ] {
        let bench = setup(policy).start().await;
        let v4 = bench.ask("Tidegate.Internal.", RecordType::A).await;
        assert_eq!(data(&v4), ["10.77.1.1"]);
        let v6 = bench.ask("tidegate.internal.", RecordType::AAAA).await;
        assert_eq!(data(&v6), ["fd77:1::1"]);
        let none = bench.ask("tidegate.internal.", RecordType::HTTPS).await;
        assert_eq!(none.metadata.response_code, ResponseCode::NoError);
        assert!(none.answers.is_empty() && bench.upstream.log().is_empty());
        assert!(
            bench
                .events()
                .iter()
                .all(|event| event.verdict == Verdict::Permit)
        );
    }
}

#[tokio::test]
async fn a_configured_host_entry_wins_and_names_around_it_are_judged() {
    let mut configured = setup("DENY".into());
    configured.config.hosts = vec![(name("tidegate.internal"), vec!["10.0.0.5".parse().unwrap()])];
    let bench = configured.start().await;
    assert_eq!(
        data(&bench.ask("tidegate.internal.", RecordType::A).await),
        ["10.0.0.5"]
    );
    for other in ["x.tidegate.internal.", "internal.", "xtidegate.internal."] {
        bench
            .assert_refused(other, RecordType::A, Reason::PolicyUnknown)
            .await;
    }
}

#[tokio::test]
async fn a_network_without_the_pages_has_no_such_name() {
    let mut elsewhere = setup("DENY".into());
    elsewhere.config.pages = [("other".into(), vec!["10.77.1.1".parse().unwrap()])].into();
    let bench = elsewhere.start().await;
    bench
        .assert_refused("tidegate.internal.", RecordType::A, Reason::PolicyUnknown)
        .await;
}

#[tokio::test]
async fn a_refusal_names_its_page_where_there_is_room_for_the_whole_address() {
    let bench = setup(block("a.test:443")).start().await;
    let answer = bench.ask("evil.test.", RecordType::A).await;
    let event = bench.event();
    assert_eq!(
        extended_error(&answer).unwrap().1,
        format!(
            "policy ci v3: not-allowed, event {}, http://tidegate.internal/why/evil.test",
            event.id
        )
    );
    let long = format!("{0}.{0}.{0}.test.", "a".repeat(60));
    let answer = bench.ask(&long, RecordType::A).await;
    let text = extended_error(&answer).unwrap().1;
    assert!(!text.contains("http://") && text.contains(", event "), "{text}");
}
