//! Summaries and the page for people, as runners see them: whose they are, and when.

use hyper::header::ACCEPT;
use tidegate_policy::event::{EventSink, Kind, NetworkEvent};
use tidegate_policy::verdict::{Reason, Verdict};

use super::*;
use crate::events::Witness;

impl Api {
    /// A lookup of `name` by `source` was refused.
    fn refused(&self, source: &str, name: &str) -> String {
        let subject = self.world.leases.lookup(ip(source), self.pages.clock.now());
        let mut event: NetworkEvent = subject.event(self.pages.events.mint(), Kind::Dns, ip(source));
        event.name = Some(tidegate_policy::DnsName::parse(name).unwrap());
        event.verdict = Verdict::Refuse;
        event.reason = Some(Reason::NotAllowed);
        self.pages.tallies.see(&mut [event.clone()].iter());
        event.id.to_string()
    }

    async fn text(&self, source: &str, path: &str, accept: &'static str) -> (u16, &'static str, String) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let ask = Ask {
            source: ip(source),
            method: Method::GET,
            path: path.to_owned(),
            query: String::new(),
            headers,
            body: Bytes::new(),
        };
        match self.pages.answer(ask).await {
            Ok(page) => (page.status.as_u16(), page.content_type, page.body),
            Err(problem) => (problem.status.as_u16(), "problem", problem.detail),
        }
    }

    async fn start(&self, source: &str, run: &str) -> String {
        let token = self.world.tokens.acme.expose().to_owned();
        let said = Self::at(source, Some(&token));
        let (status, started) = self.post(said, "/v1/jobs", &job("acme/web", run)).await;
        assert_eq!(status, 201, "{started}");
        started["id"].as_str().unwrap().to_owned()
    }

    async fn end(&self, source: &str) {
        let token = self.world.tokens.acme.expose().to_owned();
        let said = Self::at(source, Some(&token));
        let (status, ended) = self.post(said, "/v1/jobs/current/end", &json!({})).await;
        assert_eq!(status, 200, "{ended}");
    }
}

#[tokio::test]
async fn a_summary_is_the_calling_jobs_and_comes_as_markdown_and_as_data() {
    let api = Api::new(RunnerKind::Ephemeral);
    let first = api.start("10.77.1.2", "7").await;
    api.start("10.77.1.3", "8").await;
    let id = api.refused("10.77.1.2", "evil.test");
    api.refused("10.77.1.3", "other.test");

    let (status, summary) = api.get("10.77.1.2", "/v1/summary.json").await;
    assert_eq!(status, 200, "{summary}");
    assert_eq!(
        (&summary["job"]["id"], &summary["counts"]["refuse"]),
        (&json!(first), &json!(1))
    );
    assert_eq!(summary["refused"][0]["ids"], json!([id]));
    assert_eq!(summary["refused"][0]["allow"], "evil.test:443");
    assert_eq!(summary["policies"][0]["name"], "web");
    assert!(summary.get("since").is_none(), "{summary}");

    let (status, media, page) = api.text("10.77.1.2", "/v1/summary.md", "*/*").await;
    assert_eq!((status, media), (200, "text/markdown; charset=utf-8"));
    assert!(
        page.contains("evil.test") && page.contains(&id) && !page.contains("other.test"),
        "{page}"
    );
}

#[tokio::test]
async fn who_holds_no_job_and_never_did_has_no_summary() {
    let api = Api::new(RunnerKind::Ephemeral);
    for path in ["/v1/summary.md", "/v1/summary.json"] {
        let (status, problem) = api.get("10.77.1.2", path).await;
        assert_eq!((status, &problem["code"]), (404, &json!("no-job")), "{path}");
    }
}

#[tokio::test]
async fn after_its_end_a_job_reads_its_summary_until_its_machine_has_changed() {
    for runners in [RunnerKind::Ephemeral, RunnerKind::Persistent] {
        let api = Api::new(runners);
        let id = api.start("10.77.1.2", "7").await;
        api.refused("10.77.1.2", "evil.test");
        api.end("10.77.1.2").await;
        let (status, summary) = api.get("10.77.1.2", "/v1/summary.json").await;
        assert_eq!(
            (status, &summary["job"]["id"]),
            (200, &json!(id)),
            "{runners:?} {summary}"
        );
        assert_eq!(summary["refused"][0]["endpoint"], "evil.test");
        let (status, _) = api.get("10.77.1.3", "/v1/summary.json").await;
        assert_eq!(status, 404, "its neighbour");
        api.machines
            .0
            .lock()
            .insert(ip("10.77.1.2"), Seen::Machine(mac(99)));
        let (status, _) = api.get("10.77.1.2", "/v1/summary.json").await;
        assert_eq!(status, 404, "{runners:?}: another machine");
    }
}

#[tokio::test]
async fn the_next_job_on_a_machine_reads_its_own() {
    let api = Api::new(RunnerKind::Persistent);
    api.start("10.77.1.2", "7").await;
    api.refused("10.77.1.2", "evil.test");
    api.end("10.77.1.2").await;
    let next = api.start("10.77.1.2", "8").await;
    let (_, summary) = api.get("10.77.1.2", "/v1/summary.json").await;
    assert_eq!(
        (&summary["job"]["id"], &summary["counts"]["refuse"]),
        (&json!(next), &json!(0))
    );
}

#[tokio::test]
async fn why_tells_the_calling_job_with_what_was_seen_and_a_stranger_what_holds_by_default() {
    let api = Api::new(RunnerKind::Ephemeral);
    let id = api.start("10.77.1.2", "7").await;
    let event = api.refused("10.77.1.2", "evil.test");
    let (status, media, page) = api.text("10.77.1.2", "/why/evil.test", "*/*").await;
    assert_eq!((status, media), (200, "text/plain; charset=utf-8"));
    for part in [
        "Tidegate refuses evil.test:443\n".to_owned(),
        "web version 3 (block), from repo:acme/web".into(),
        id,
        format!("evil.test (lookup) refused once, not-allowed; event {event}"),
        "\n  evil.test:443\n".into(),
    ] {
        assert!(page.contains(&part), "{part} is missing in\n{page}");
    }
    let (_, media, page) = api.text("10.77.1.2", "/why/web.test", "text/html").await;
    assert_eq!(media, "text/html; charset=utf-8");
    assert!(page.contains("<h1>Tidegate permits web.test:443</h1>"), "{page}");
    // Nobody was seen there before; that it asks is evidence enough of which machine it is.
    let (_, _, page) = api.text("10.77.1.3", "/why/evil.test:22/tcp", "*/*").await;
    assert!(
        page.contains("Tidegate refuses evil.test:22\n") && page.contains("none registered"),
        "{page}"
    );
    assert!(!page.contains(&event), "another's event\n{page}");
    let (status, _, page) = api.text("10.77.1.2", "/", "*/*").await;
    assert!(status == 200 && page.contains("/why/NAME"), "{page}");
}

#[tokio::test]
async fn a_question_that_is_none_is_told_without_being_repeated_raw() {
    let api = Api::new(RunnerKind::Ephemeral);
    for path in [
        "/why/%1b%5b2Jevil.test".to_owned(),
        "/why/%3Cscript%3Ealert(1)%3C/script%3E".into(),
        "/why/*.test".into(),
        "/why/".into(),
        format!("/why/{}", "a".repeat(301)),
        format!("/why/{}.test", "a".repeat(255)),
    ] {
        for accept in ["*/*", "text/html"] {
            let (status, _, page) = api.text("10.77.1.2", &path, accept).await;
            assert_eq!(status, 400, "{path}: {page}");
            assert!(!page.contains('\u{1b}'), "{page}");
            assert!(accept == "*/*" || !page.contains("<script"), "{page}");
        }
    }
}
