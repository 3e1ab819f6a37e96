//! What is wanted of every answer below `/ui`, whatever it shows: its headers, and if it is HTML that nothing is inline,
//! every tag is closed, every control has a name and ids are unique. Called by the bench for each answer.

use std::collections::BTreeSet;

use crate::bench::Answer;

/// Largest page, in bytes.
const MAX_PAGE: usize = 100 << 10;

/// Elements that have no end tag.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
];

/// A tag as it is written.
#[derive(Debug)]
struct Tag {
    name: String,
    is_end: bool,
    is_closed: bool,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Looks at an answer; panics with what is wrong.
pub(crate) fn check(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    for wanted in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(wanted), "{wanted} in {policy:?}: {answer:?}");
    }
    assert!(!policy.contains("unsafe"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
    assert_eq!(answer.header("referrer-policy"), "same-origin", "{answer:?}");
    if !answer.header("content-type").starts_with("text/html") {
        return;
    }
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    let tags = tags(&answer.text);
    check_nothing_is_inline(&tags, answer);
    check_every_tag_is_closed(&tags, answer);
    check_controls_have_names(&tags, answer);
    check_times_read_well(answer);
    if answer.text.starts_with("<!doctype html>") {
        check_whole(&tags, answer);
    }
}

fn check_nothing_is_inline(tags: &[Tag], answer: &Answer) {
    for tag in tags {
        assert_ne!(tag.name, "style", "{answer:?}");
        if tag.name == "script" && !tag.is_end {
            let source = tag.get("src").unwrap_or_default();
            assert!(source.starts_with("/ui/static/"), "{tag:?}");
        }
        for (name, value) in &tag.attributes {
            assert_ne!(name, "style", "{tag:?}");
            assert!(!name.starts_with("on"), "{tag:?}");
            let link = ["href", "src", "action", "data-load"].contains(&name.as_str());
            assert!(
                !link || value.starts_with(['/', '#', '?']),
                "links stay here: {tag:?}"
            );
        }
        let sends = tag.name == "form" && !tag.is_end;
        assert!(
            !sends || tag.get("method").is_some(),
            "says how it is sent: {tag:?}"
        );
    }
}

fn check_every_tag_is_closed(tags: &[Tag], answer: &Answer) {
    let mut open: Vec<&str> = Vec::new();
    for tag in tags.iter().filter(|tag| !VOID.contains(&tag.name.as_str())) {
        if tag.is_end {
            assert_eq!(
                open.pop(),
                Some(tag.name.as_str()),
                "is closed here, inside of {open:?}: {answer:?}"
            );
        } else if !tag.is_closed {
            open.push(&tag.name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}: {answer:?}");
}

fn check_controls_have_names(tags: &[Tag], answer: &Answer) {
    let mut ids = BTreeSet::new();
    for id in tags.iter().filter_map(|tag| tag.get("id")) {
        assert!(ids.insert(id), "the id {id} comes twice: {answer:?}");
    }
    let labelled: BTreeSet<&str> = tags
        .iter()
        .filter(|tag| tag.name == "label")
        .filter_map(|tag| tag.get("for"))
        .collect();
    for target in &labelled {
        assert!(ids.contains(target), "a label for nothing: {target}: {answer:?}");
    }
    let mut in_label = 0;
    for tag in tags {
        match (tag.name.as_str(), tag.is_end) {
            ("label", false) => in_label += 1,
            ("label", true) => in_label -= 1,
            ("input" | "select" | "textarea", false) => {
                let named = in_label > 0
                    || tag.get("type") == Some("hidden")
                    || tag.get("aria-label").is_some()
                    || tag.get("id").is_some_and(|id| labelled.contains(id));
                assert!(named, "a control without a label: {tag:?}");
            }
            ("th", false) => assert!(tag.get("scope").is_some(), "a heading of what: {tag:?}"),
            ("img", false) => assert!(tag.get("alt").is_some(), "a picture of what: {tag:?}"),
            _ => {}
        }
    }
}

/// Scripts make "3 min. ago" of a time unless its class says otherwise: no word stands before it that wants a date.
fn check_times_read_well(answer: &Answer) {
    for (at, _) in answer.text.match_indices("<time datetime") {
        let before = answer.text[..at].trim_end();
        let word = before.rsplit(|c: char| !c.is_ascii_alphabetic()).next();
        let wants_a_date =
            word.is_some_and(|word| ["at", "on", "since", "before", "from", "to"].contains(&word));
        let said = before.get(before.len().saturating_sub(60)..);
        assert!(!wants_a_date, "{said:?} before a relative time: {answer:?}");
    }
}

fn check_whole(tags: &[Tag], answer: &Answer) {
    let count = |name: &str| {
        let begun = |tag: &&Tag| tag.name == name && !tag.is_end;
        tags.iter().filter(begun).count()
    };
    assert_eq!(count("h1"), 1, "{answer:?}");
    assert_eq!(count("main"), 1, "{answer:?}");
    let (head, _) = answer.text.split_once("</head>").expect("a head");
    assert_eq!(head.matches("<title>").count(), 1, "{answer:?}");
    // What was typed comes back whole, however long it was.
    assert!(
        answer.status != 200 || answer.text.len() <= MAX_PAGE,
        "a page of {} bytes: {answer:?}",
        answer.text.len()
    );
}

/// The tags of a text. Texts between them are escaped, so that every `<` begins one.
fn tags(text: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix("!--") {
            rest = after.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let (tag, after) = tag(rest);
        rest = after;
        if tag.name != "!doctype" {
            tags.push(tag);
        }
    }
    tags
}

/// The tag that a text begins with, after its `<`, and what comes behind it.
fn tag(text: &str) -> (Tag, &str) {
    let (is_end, text) = text.strip_prefix('/').map_or((false, text), |rest| (true, rest));
    let stop = |c: char| c.is_ascii_whitespace() || c == '>' || c == '/';
    let end = text.find(stop).unwrap_or(text.len());
    let mut tag = Tag {
        name: text[..end].to_ascii_lowercase(),
        is_end,
        is_closed: false,
        attributes: Vec::new(),
    };
    let mut rest = text[end..].trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        if let Some(after) = rest.strip_prefix("/>") {
            tag.is_closed = true;
            return (tag, after);
        }
        assert!(!rest.is_empty(), "a tag without an end: {}", tag.name);
        let stop = |c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/');
        let end = rest.find(stop).unwrap_or(rest.len());
        assert!(end > 0, "an odd tag: {:?}", rest.get(..40));
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix("=\"") {
            let (inner, after) = after.split_once('"').expect("a value that ends");
            value = inner.into();
            rest = after.trim_start();
        }
        tag.attributes.push((name, value));
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    let refused = |html: &str| {
        let html = html.to_owned();
        std::panic::catch_unwind(move || {
            let tags = tags(&html);
            let answer = Answer::of_html(&html);
            check_nothing_is_inline(&tags, &answer);
            check_every_tag_is_closed(&tags, &answer);
            check_controls_have_names(&tags, &answer);
            check_times_read_well(&answer);
        })
        .is_err()
    };
    assert!(!refused(
        "<p class=\"a\">x &lt;b&gt;<br></p><label for=\"a\">A</label><input id=\"a\">"
    ));
    for wrong in [
        "<script>x</script>",
        "<script src=\"https://evil.test/x.js\"></script>",
        "<p style=\"color:red\">x</p>",
        "<img src=\"/x\" alt=\"\" onerror=\"x\">",
        "<a href=\"javascript:x\">x</a>",
        "<p><b>x</p></b>",
        "<p>",
        "<input id=\"b\">",
        "<th>x</th>",
        "<p id=\"a\">x</p><p id=\"a\">x</p>",
        "<p>saved at <time datetime=\"x\">x</time></p>",
    ] {
        assert!(refused(wrong), "{wrong}");
    }
}
