//! Rows of "Harden-Runner's own cases": what the community agent does, and what Tidegate does where that
//! is a bug.

use super::*;
use crate::document::{ParseOptions, PolicyDocument};
use crate::fixture::{book_in, world};

fn block(allowed: &str) -> Scene {
    Scene::block(&format!(
        "egress-policy: block\nallowed-endpoints: |\n  {allowed}"
    ))
}

fn resolves_only(scene: &Scene, yes: &[&str], no: &[&str]) {
    for asked in yes {
        assert_eq!(
            answers(&scene.ask(asked)),
            resolved(&asked.to_lowercase()),
            "{asked}"
        );
    }
    for asked in no {
        assert!(
            matches!(
                answers(&scene.ask(asked)),
                Answers::Refused(Reason::NotAllowed) | Answers::NoData(_)
            ),
            "{asked}"
        );
        assert!(
            !matches!(scene.ask(asked).action, QueryAction::Resolve(_)),
            "{asked}"
        );
    }
}

#[test]
fn harden_runner_row_allowed_com() {
    resolves_only(&block("allowed.com:443"), &["allowed.com"], &["notallowed.com"]);
}

#[test]
fn harden_runner_row_data_mcr_microsoft_com() {
    resolves_only(
        &block("*.data.mcr.microsoft.com:443"),
        &["westus.data.mcr.microsoft.com"],
        &["mcr.microsoft.com"],
    );
}

#[test]
fn harden_runner_row_case_of_the_question() {
    resolves_only(&block("github.com:443"), &["GITHUB.com", "github.com"], &[]);
}

#[test]
fn harden_runner_row_case_of_the_policy() {
    resolves_only(&block("GitHub.com:443"), &["github.com"], &[]);
}

#[test]
fn harden_runner_row_github_com_is_not_api_github_com() {
    resolves_only(&block("github.com:443"), &["github.com"], &["api.github.com"]);
}

#[test]
fn harden_runner_row_leftmost_wildcard_is_any_depth_and_not_the_name_itself() {
    let yes = ["registry.npm.example", "a.b.npm.example"];
    resolves_only(&block("*.npm.example:443"), &yes, &["npm.example"]);
}

#[test]
fn harden_runner_row_both_ports_of_one_name() {
    let scene = block("*.npm.example:443 *.npm.example:8443").ticket("registry.npm.example", "192.0.2.1");
    for port in [443, 8443] {
        let to = format!("192.0.2.1:{port}");
        assert_eq!(
            does(&scene.tcp(&to, tls("registry.npm.example"))),
            dials("192.0.2.1"),
            "{port}"
        );
    }
    assert_eq!(
        does(&scene.tcp("192.0.2.1:9443", tls("registry.npm.example"))),
        Does::Closes(Reason::NotAllowed)
    );
}

#[test]
fn harden_runner_row_star_glued_to_a_name_stays_within_its_label_and_is_reported() {
    resolves_only(
        &block("*github.com:443"),
        &["evilgithub.com", "github.com"],
        &["a.evilgithub.com"],
    );
    let parsed = PolicyDocument::parse("allowed-endpoints: '*github.com:443'", &ParseOptions::default());
    let said: Vec<String> = parsed.diagnostics.iter().map(|one| format!("{one:?}")).collect();
    assert!(
        said.iter().any(|one| one.contains("*.github.com")),
        "did you mean: {said:?}"
    );
}

#[test]
fn harden_runner_row_star_inside_a_label_does_not_cross_dots() {
    let scene = block("productionresultssa*.blob.core.windows.net:443");
    let yes = [
        "productionresultssa123.blob.core.windows.net",
        "productionresultssa.blob.core.windows.net",
    ];
    resolves_only(
        &scene,
        &yes,
        &["productionresultssaEVIL.attacker.blob.core.windows.net"],
    );
}

#[test]
fn harden_runner_row_allowed_and_globally_blocked_is_refused() {
    let scene = Scene::new(book_in(world("evil.com"), "allowed-endpoints: evil.com:443"));
    assert_eq!(
        answers(&scene.ask("evil.com")),
        Answers::Refused(Reason::GlobalBlock)
    );
}

#[test]
fn harden_runner_row_audit_refuses_what_is_globally_blocked() {
    let scene = Scene::new(book_in(
        world("blocked.com\n*.blocked.example"),
        "egress-policy: audit",
    ));
    for asked in ["blocked.com", "foo.blocked.example"] {
        assert_eq!(
            answers(&scene.ask(asked)),
            Answers::Refused(Reason::GlobalBlock),
            "{asked}"
        );
    }
}

#[test]
fn harden_runner_row_global_block_compares_without_case_and_exactly() {
    let scene = Scene::new(book_in(world("Evil.COM"), "egress-policy: audit"));
    assert_eq!(
        answers(&scene.ask("EVIL.com")),
        Answers::Refused(Reason::GlobalBlock)
    );
    assert_eq!(answers(&scene.ask("sub.evil.com")), resolved("sub.evil.com"));
}

#[test]
fn harden_runner_row_global_block_ranges_cover_their_addresses() {
    for mode in ["audit", "block"] {
        let policy = format!("egress-policy: {mode}\nallowed-endpoints: 203.0.113.0/24:443");
        let scene = Scene::new(book_in(world("203.0.113.0/24"), &policy));
        assert_eq!(
            does(&scene.tcp("203.0.113.9:443", tls("x.test"))),
            Does::Closes(Reason::GlobalBlock),
            "{mode}"
        );
    }
}

#[test]
fn harden_runner_row_a_name_that_does_not_resolve_opens_nothing_else() {
    // What fails is one lookup, later; compiling never asks for a name, so there is nothing to revert.
    resolves_only(
        &block("gone.example:443 ok.example:443"),
        &["ok.example", "gone.example"],
        &["other.example"],
    );
}

#[test]
fn harden_runner_row_commas_and_literal_blocks_give_both_endpoints() {
    let written = [
        "allowed-endpoints: a.com:443,b.com:443",
        "allowed-endpoints: |\n  a.com:443\n  b.com:443\n",
    ];
    for text in written {
        let scene = Scene::block(text)
            .ticket("a.com", "192.0.2.1")
            .ticket("b.com", "192.0.2.2");
        assert_eq!(
            does(&scene.tcp("192.0.2.1:443", tls("a.com"))),
            dials("192.0.2.1"),
            "{text}"
        );
        assert_eq!(
            does(&scene.tcp("192.0.2.2:443", tls("b.com"))),
            dials("192.0.2.2"),
            "{text}"
        );
    }
}
