//! Times in pages: absolute in UTC for everybody, relative by `time.js` for who has scripts.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::Timestamp;
use serde::Deserialize;

/// A moment, shown as `<time datetime="…">2026-11-22 17:04 UTC</time>`. Digits only, so templates take it as HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(crate) struct When(pub(crate) Timestamp);

impl When {
    /// The date and the time of day, whoever looks: for a bound, where "last month" would say too little.
    pub(crate) fn dated(self) -> Marked {
        Marked(self, "exact")
    }

    /// The date, the time of day and, for who has scripts, how long ago it was: for a record.
    pub(crate) fn both(self) -> Marked {
        Marked(self, "both")
    }

    /// For a form's field or a query: RFC 3339, to the second.
    pub(crate) fn exact(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<time")?;
        tell(out, *self)
    }
}

impl HtmlSafe for When {}

/// A moment with the class by which `time.js` knows how to tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked(When, &'static str);

impl fmt::Display for Marked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "<time class=\"{}\"", self.1)?;
        tell(out, self.0)
    }
}

impl HtmlSafe for Marked {}

/// The rest of an element that begins.
fn tell(out: &mut fmt::Formatter<'_>, when: When) -> fmt::Result {
    let shown = when.0.strftime("%Y-%m-%d %H:%M UTC");
    write!(out, " datetime=\"{}\">{shown}</time>", when.exact())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_moment_says_its_zone() {
        let when = When("2026-11-22T17:04:05.123456Z".parse().unwrap());
        assert_eq!(
            when.to_string(),
            "<time datetime=\"2026-11-22T17:04:05Z\">2026-11-22 17:04 UTC</time>"
        );
        assert_eq!(
            when.both().to_string(),
            "<time class=\"both\" datetime=\"2026-11-22T17:04:05Z\">2026-11-22 17:04 UTC</time>"
        );
        assert!(when.dated().to_string().starts_with("<time class=\"exact\" "));
    }
}
