//! The thin slice: a permitted name is answered and ticketed, a refused one explained, both recorded.

use hickory_proto::rr::RecordType;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::support::{Setup, block, data, extended_error};

#[tokio::test]
async fn a_permitted_name_is_answered_ticketed_and_recorded() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench.upstream.set("a.test", &["A 192.0.2.1", "A 192.0.2.2"]);
    let answer = bench.ask("A.test.", RecordType::A).await;
    assert_eq!(data(&answer), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(answer.queries[0].name().to_ascii(), "A.test.");
    assert!(bench.holds("a.test", "192.0.2.1") && bench.holds("a.test", "192.0.2.2"));
    let event = bench.event();
    assert_eq!(event.verdict, Verdict::Permit);
    assert_eq!(event.answers.as_slice(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(
        (event.qtype.as_deref(), event.rcode),
        (Some("A"), Some("NOERROR"))
    );
    assert_eq!(
        (event.address, event.port),
        (Some("127.0.0.1".parse().unwrap()), 53)
    );
}

#[tokio::test]
async fn a_refused_name_is_explained_and_never_reaches_an_upstream() {
    let bench = Setup::new(block("a.test:443")).start().await;
    bench
        .assert_refused("secret.evil.test.", RecordType::A, Reason::NotAllowed)
        .await;
    let answer = bench.ask("evil.test.", RecordType::A).await;
    let (code, text) = extended_error(&answer).unwrap();
    assert_eq!(code, 15);
    let event = bench.event();
    assert!(
        text.contains("policy ci v3") && text.contains(&event.id.to_string()),
        "{text}"
    );
}
