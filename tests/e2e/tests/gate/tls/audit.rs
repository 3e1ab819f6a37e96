//! The same hellos in audit mode: bytes are relayed untouched to the address that the client chose, and what
//! block would refuse is recorded.

use tidegate_e2e::hello::{self, Client, Group, Hello, SERVER_NAME, record, server_names};
use tidegate_e2e::{audit, flow_event, started};
use tidegate_lab::{Lab, Site, TlsMode, plan};

use super::Stage;

#[tokio::test]
async fn in_audit_malformed_nameless_and_hidden_hellos_pass_untouched() {
    let lab = Lab::builder().build().unwrap();
    let mut stage = Stage::with(&lab, &audit(&["allowed.test:443"])).await;
    let honest = hello::plain("allowed.test");
    let second_name = server_names(&[(0, b"evil.test")]);
    for (what, bytes, reason) in [
        (
            "T33 two names",
            Hello::named("allowed.test").with(SERVER_NAME, second_name).wire(),
            "malformed-tls",
        ),
        (
            "T19 another record in front",
            [record(20, 0x0303, &[1]), honest].concat(),
            "malformed-tls",
        ),
        (
            "T53 128 KiB",
            Hello::named("allowed.test").padded(128 << 10).wire(),
            "malformed-tls",
        ),
        ("T30 no name", Hello::nameless().wire(), "no-name"),
        ("T56 ESNI", Hello::named("allowed.test").esni().wire(), "ech"),
        ("a refused name", hello::plain("evil.test"), "not-allowed"),
    ] {
        let seen = stage.server.connections().len();
        let mut client = stage.client();
        client.say(&bytes);
        stage.receives(what, &bytes, seen).await;
        client.shut();
        let fields = [
            ("kind", "tls"),
            ("verdict", "would-refuse"),
            ("mode", "audit"),
            ("reason", reason),
        ];
        flow_event(&mut stage.events, &client, &fields).await;
    }
}

#[tokio::test]
async fn t65_in_audit_a_second_hello_for_another_name_is_only_recorded() {
    let lab = Lab::builder().build().unwrap();
    lab.add_site(Site::new("retry.test", plan::site(21)).tls(TlsMode::HelloRetry))
        .unwrap();
    let gateway = started(&lab, &audit(&["retry.test:443"])).await;
    let mut client = Client::connect(lab.runner(0), "192.0.2.21:443");
    let retried = client
        .say(&hello::with_unusable_share("retry.test"))
        .hear(hello::Outcome::retried);
    assert!(retried.retried(), "{retried:?}");
    // The site itself has the last word: ours finds the change of name improper.
    let outcome = client
        .say(&Hello::named("evil.test").share(Group::P384).wire())
        .hear_all();
    assert_ne!(
        outcome.alert(),
        Some(super::ACCESS_DENIED),
        "the gateway refused it: {outcome:?}"
    );
    client.shut();
    let fields = [
        ("kind", "tls"),
        ("verdict", "would-refuse"),
        ("reason", "second-hello"),
    ];
    flow_event(&mut gateway.events(), &client, &fields).await;
}
