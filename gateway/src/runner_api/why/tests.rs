//! The page's words and markup, without requests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hyper::header::HeaderValue;
use proptest::prelude::*;
use tidegate_control_wire::text::is_unprintable;
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::verdict::Mode;

use super::*;

fn explanation(target: &str, verdict: Verdict) -> Explanation {
    let refused = verdict != Verdict::Permit;
    Explanation {
        target: target.into(),
        verdict,
        mode: Mode::Block,
        reason: refused.then(|| "not-allowed".into()),
        meaning: refused.then(|| "No allowed endpoint of the policy covers it.".into()),
        rule: (!refused).then(|| "*.good.test:443".into()),
        line: (!refused).then_some(4),
        rule_source: (!refused).then(|| "policy".into()),
        nearest: refused.then(|| "evil.example:443".into()),
        policy: Some("ci".into()),
        policy_version: Some(3),
        scope: Some("repo:acme/web".into()),
    }
}

fn caller(job: &str) -> Caller {
    let identity = JobIdentity {
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "ci.yml".into(),
        job: job.into(),
        run_id: "7".into(),
        run_attempt: 1,
        runner_name: "".into(),
        cluster: "".into(),
        event: "".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Declared,
    };
    Caller {
        source: "10.77.1.2".parse().unwrap(),
        job: Some(Arc::new(JobRecord {
            id: "job_1".into(),
            identity,
        })),
        standing: Standing::Leased,
        network: "runners".into(),
    }
}

fn told(target: &str, verdict: Verdict) -> Told {
    let parsed = Target::parse(target).unwrap();
    Told::of(&explanation(target, verdict), &parsed, &caller("build"), &[])
}

#[test]
fn a_refusal_is_told_with_reason_nearest_policy_job_and_the_line_to_add() {
    assert_eq!(
        told("evil.test:443", Verdict::Refuse).page(Format::Plain),
        "Tidegate refuses evil.test:443\n\n\
         Reason:  not-allowed - No allowed endpoint of the policy covers it.\n\
         Nearest: evil.example:443\n\
         Policy:  ci version 3 (block), from repo:acme/web\n\
         Job:     acme/web / ci.yml / build / 7 (job_1, declared)\n\
         Source:  10.77.1.2\n\n\
         To allow it, add this line to allowed-endpoints of the policy ci (repo:acme/web):\n\n  evil.test:443\n"
    );
}

#[test]
fn a_permit_names_its_rule_and_line_and_audit_says_what_block_would_do() {
    let permit = told("www.good.test:443", Verdict::Permit).page(Format::Plain);
    assert!(
        permit.contains("Rule:    *.good.test:443 (policy, line 4)\n"),
        "{permit}"
    );
    assert!(!permit.contains("add this line"), "{permit}");
    let audit = told("evil.test:443", Verdict::WouldRefuse).page(Format::Plain);
    assert!(
        audit.starts_with("Tidegate would refuse evil.test:443 in block mode\n"),
        "{audit}"
    );
}

#[test]
fn who_holds_no_job_is_told_what_governs_it() {
    let mut nobody = caller("");
    nobody.job = None;
    for (standing, part) in [
        (
            Standing::Unleased,
            "none registered: what network runners does by default holds",
        ),
        (Standing::Quarantined, "it has ended"),
        (Standing::Unbound, "not bound"),
    ] {
        nobody.standing = standing;
        let page = Told::welcome(&nobody).page(Format::Plain);
        assert!(page.contains(part), "{page}");
    }
}

#[test]
fn html_is_chosen_by_name_only() {
    for (accept, format) in [
        (None, Format::Plain),
        (Some("*/*"), Format::Plain),
        (
            Some("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
            Format::Html,
        ),
        (Some("Text/HTML"), Format::Html),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(Format::wanted(&headers), format, "{accept:?}");
    }
}

#[test]
fn the_page_may_wear_its_own_style_and_nothing_else() {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let digest = suite.tls13().unwrap().common.hash_provider.hash(STYLE.as_bytes());
    let named = format!("'sha256-{}'", base64(digest.as_ref()));
    assert!(CONTENT_SECURITY_POLICY.contains(&named), "write {named}");
    assert!(
        told("evil.test:443", Verdict::Refuse)
            .page(Format::Html)
            .contains(&format!("<style>{STYLE}</style>"))
    );
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | three.get(at).copied().map_or(0, usize::from)
        });
        for at in 0..4 {
            let digit = char::from(ALPHABET[bits >> (18 - 6 * at) & 63]);
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}

proptest! {
    #[test]
    fn no_text_of_a_stranger_acts_on_a_terminal_or_a_browser(text in any::<String>()) {
        let mut hostile = explanation("evil.test:443", Verdict::Refuse);
        for field in [&mut hostile.nearest, &mut hostile.policy, &mut hostile.scope, &mut hostile.rule] {
            *field = Some(text.clone());
        }
        let target = Target::parse("evil.test:443").unwrap();
        let told = Told::of(&hostile, &target, &caller(&text), &[]);
        let plain = told.page(Format::Plain);
        prop_assert!(!plain.contains(|c: char| c != '\n' && is_unprintable(c)));
        // The same markup, whatever the text.
        let tags = |page: &str| page.matches('<').count();
        let harmless = Told { facts: told.facts.iter().map(|(what, _)| (*what, "x".into())).collect(), ..Told::default() };
        let advice = told.advice.len() * 2 + usize::from(told.line.is_some()) * 2;
        prop_assert_eq!(tags(&told.page(Format::Html)), tags(&harmless.page(Format::Html)) + advice);
        prop_assert!(Told::unclear(&text).page(Format::Html).matches('"').count().is_multiple_of(2));
    }
}
