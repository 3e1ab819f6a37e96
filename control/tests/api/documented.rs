//! The OpenAPI document: that it is the golden one, and that answers are what it says.

use std::path::Path;
use std::sync::LazyLock;

use axum::http::Method;
use serde_json::Value;

use crate::bench::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(tidegate_control::api::openapi()).unwrap());

/// The document that is served.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}

/// Every documented operation: method, path, what is said of it.
pub(crate) fn operations() -> Vec<(Method, String, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &'static Value)| {
        let methods = item.as_object().unwrap().iter();
        let known = methods.filter_map(|(method, operation)| {
            let method: Method = method.to_uppercase().parse().ok()?;
            Some((method, path.clone(), operation))
        });
        known.collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

/// The operation that a request meant.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let (mut want, mut have) = (template.split('/'), path.split('/'));
        loop {
            match (want.next(), have.next()) {
                (None, None) => return true,
                (Some(want), Some(have)) if want == have || want.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut known = operations();
    known.retain(|(one, template, _)| one == method && fits(template));
    // A path without parameters is the nearer one.
    known.sort_by_key(|(_, template, _)| template.matches('{').count());
    known.first().map(|(_, _, operation)| *operation)
}

/// Panics when an answer has a status or a media type that the document does not declare.
pub(crate) fn check_documented(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else {
        assert!(
            matches!(answer.status, 404 | 405),
            "{method} {path} is not documented: {answer:?}"
        );
        assert_eq!(
            answer.media(),
            "application/problem+json",
            "{method} {path}: {answer:?}"
        );
        return;
    };
    let said = &operation["responses"][answer.status.to_string()];
    assert!(
        said.is_object(),
        "{method} {path}: {} is not declared: {answer:?}",
        answer.status
    );
    if answer.status >= 400 {
        assert_eq!(
            answer.media(),
            "application/problem+json",
            "{method} {path}: {answer:?}"
        );
    }
    match said["content"].as_object() {
        None => assert_eq!(answer.text, "", "{method} {path}: a body that is not declared"),
        Some(content) => {
            assert!(
                content.contains_key(answer.media()),
                "{method} {path}: {} is not declared",
                answer.media()
            );
        }
    }
    for (header, _) in said["headers"].as_object().into_iter().flatten() {
        assert!(
            answer.headers.contains_key(header.to_lowercase()),
            "{method} {path}: {} without {header}: {answer:?}",
            answer.status
        );
    }
}

/// Renew the golden file after a change that is meant: `UPDATE_GOLDEN=1 cargo test -p tidegate-control --test api golden`.
#[test]
fn the_document_is_the_golden_file() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = tidegate_control::api::openapi();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, made).unwrap();
    }
    let known = std::fs::read_to_string(&golden).unwrap_or_default();
    let differs = known
        .lines()
        .zip(made.lines())
        .position(|(known, made)| known != made);
    assert!(
        known == made,
        "control/openapi.json is not what the code makes (first at line {:?}); if the change is meant, run \
         UPDATE_GOLDEN=1 cargo test -p tidegate-control --test api golden",
        differs.map(|at| at + 1)
    );
}

#[test]
fn every_operation_says_what_it_is_for_and_what_it_answers() {
    for (method, path, operation) in operations() {
        assert!(
            operation["summary"].as_str().is_some_and(|text| text.len() > 5),
            "{method} {path}"
        );
        assert!(operation["operationId"].is_string(), "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(
            answers.keys().any(|status| status.starts_with('2')),
            "{method} {path}"
        );
        for (status, answer) in answers {
            let described = answer["description"].is_string() || answer["content"].is_object();
            assert!(described, "{method} {path}: {status}");
        }
    }
}
