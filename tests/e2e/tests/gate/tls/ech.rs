//! Encrypted Client Hello: GREASE by its outer name, a published configuration refused.

use tidegate_e2e::hello::{self, Client, Hello};
use tidegate_e2e::{block, flow_event, run, started};
use tidegate_lab::Lab;

use super::{ACCESS_DENIED, Stage};

/// An ECHConfigList with one configuration: id 7, for raw.test.
const ECH_OF_RAW: &str =
    "ADv+DQA3BwAgACAJAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAEAAQAIcmF3LnRlc3QAAA==";
/// Another: id 9, for cdn-b.test.
const ECH_OF_CDN_B: &str =
    "AD3+DQA5CQAgACAJAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAEAAQAKY2RuLWIudGVzdAAA";

#[tokio::test]
async fn t54_grease_is_judged_by_its_outer_name() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let mut client = stage.client();
    let bytes = Hello::named("raw.test").ech(7).wire();
    client.say(&bytes);
    stage.receives("GREASE under an allowed name", &bytes, 0).await;
    client.shut();
    let fields = [
        ("verdict", "permit"),
        ("name", "raw.test"),
        ("ech_present", "true"),
    ];
    flow_event(&mut stage.events, &client, &fields).await;
    let bytes = Hello::named("evil.test").ech(7).wire();
    stage
        .refused(
            "GREASE under a refused name",
            &bytes,
            ACCESS_DENIED,
            "not-allowed",
        )
        .await;
}

#[tokio::test]
async fn t55_t56_a_published_config_id_and_esni_are_refused() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::new(&lab, &["raw.test:443"]).await;
    let records = ["A 192.0.2.80", &format!("HTTPS 1 . alpn=h2 ech={ECH_OF_RAW}")];
    lab.dns().set("raw.test", &records).unwrap();
    // Without any query of the job: it may know the configuration from elsewhere.
    stage
        .refused(
            "T55 id 7",
            &Hello::named("raw.test").ech(7).wire(),
            ACCESS_DENIED,
            "ech",
        )
        .await;
    stage
        .passes(
            "T54 another id is GREASE",
            &Hello::named("raw.test").ech(8).wire(),
        )
        .await;
    stage
        .refused(
            "T56 ESNI",
            &Hello::named("raw.test").esni().wire(),
            ACCESS_DENIED,
            "ech",
        )
        .await;
    // D25: the answer does not show the configuration.
    let answer = run(&lab, &["dig", "+short", "HTTPS", "raw.test"])
        .await
        .expect_success();
    assert!(
        answer.text().contains("alpn") && !answer.text().contains("ech"),
        "{answer}"
    );
    stage
        .refused(
            "T55 after the answer",
            &Hello::named("raw.test").ech(7).wire(),
            ACCESS_DENIED,
            "ech",
        )
        .await;
}

#[tokio::test]
async fn t55_the_config_id_of_any_name_at_the_address_is_refused() {
    let lab = Lab::builder().build().unwrap();
    let records = ["A 192.0.2.20", &format!("HTTPS 1 . ech={ECH_OF_CDN_B}")];
    lab.dns().set("cdn-b.test", &records).unwrap();
    // cdn-b is allowed on another port: its records may be asked for, its site on 443 may not be reached.
    let gateway = started(&lab, &block(&["cdn-a.test:443", "cdn-b.test:80"])).await;
    let hello = Hello::named("cdn-a.test").ech(9).wire();
    let grease = hello::send(lab.runner(0), "192.0.2.20:443", &hello);
    assert!(grease.accepted(), "nobody published id 9 yet: {grease:?}");
    run(&lab, &["dig", "+short", "HTTPS", "cdn-b.test"])
        .await
        .expect_success();
    run(&lab, &["dig", "+short", "cdn-b.test"]).await.expect_success();
    let before = lab.origins().connections().len();
    let mut client = Client::connect(lab.runner(0), "192.0.2.20:443");
    let outcome = client.say(&hello).hear_all();
    assert_eq!(outcome.alert(), Some(ACCESS_DENIED), "{outcome:?}");
    flow_event(
        &mut gateway.events(),
        &client,
        &[("name", "cdn-a.test"), ("reason", "ech")],
    )
    .await;
    let new = lab.origins().connections().split_off(before);
    assert!(new.iter().all(|one| one.sni.is_none()), "{new:?}");
}
