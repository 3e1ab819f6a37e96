//! The words that pages have for codes of the API: verdicts, modes, reasons.
//!
//! One word for each thing, wherever it is shown. Addresses, forms, streams and files keep the codes. A code that is not
//! known here is shown as it is: a newer gateway may say it.

use tidegate_control_wire::summary::advice;

use crate::text::Text;

/// What became of it.
pub(crate) fn verdict(code: &str) -> Text {
    match code {
        "permit" => "permitted".into(),
        "refuse" => "refused".into(),
        "would-refuse" => "would be refused".into(),
        other => other.into(),
    }
}

/// The class of a verdict's badge: its colour.
pub(crate) fn verdict_class(code: &str) -> &'static str {
    match code {
        "permit" => "permit",
        "refuse" => "refuse",
        _ => "would-refuse",
    }
}

/// What a policy does with what it does not allow.
pub(crate) fn mode(code: &str) -> Text {
    match code {
        "block" => "Block".into(),
        "audit" => "Audit".into(),
        "none" => "Lockdown only".into(),
        other => other.into(),
    }
}

/// The class of a mode's badge.
pub(crate) fn mode_class(code: &str) -> &'static str {
    match code {
        "block" => "block",
        "audit" => "audit",
        _ => "neutral",
    }
}

/// Where a rule was written.
pub(crate) fn rule_source(code: &str) -> Text {
    match code {
        "policy" => "the policy".into(),
        "set" => "an endpoint set".into(),
        "platform" => "the platform's needs".into(),
        "host" => "the gateway's own list".into(),
        "global" => "the global block list".into(),
        other => other.into(),
    }
}

/// Why it was refused, in a few words: for lists. Pages of one thing have the whole sentence.
pub(crate) fn reason(code: &str) -> Text {
    advice::reason(code).map_or_else(|| code.into(), |reason| advice::phrase(reason).into())
}

/// The code and its sentence: what a list says of a reason to who asks for more.
pub(crate) fn more(code: &str) -> Text {
    match advice::reason(code) {
        Some(reason) => format!("{code}: {}", reason.meaning().trim()).into(),
        None => code.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_words_and_what_is_not_known_is_shown_as_it_is() {
        assert_eq!(reason("not-allowed").to_string(), "not allowed");
        assert_eq!(
            more("not-allowed").to_string(),
            "not-allowed: No allowed endpoint of the policy covers it."
        );
        assert_eq!(reason("newer\u{202e}").to_string(), "newer\\u{202e}");
        assert_eq!(verdict("newer").to_string(), "newer");
        assert_eq!(mode("newer").to_string(), "newer");
        assert_eq!(verdict("would-refuse").to_string(), "would be refused");
    }
}
