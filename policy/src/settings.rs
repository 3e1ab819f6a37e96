//! Reading configuration files: one way for every program's section of `tidegate.yaml`.
//!
//! Owns the step from text to a typed section with place and hint for what is wrong, and time spans. It never opens a
//! file: `gateway` and `control` do, and they decide what the values mean.

use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::document::keys::nearest;

/// A configuration larger than this, in bytes, is not one.
pub const MAX_BYTES: usize = 4 << 20;

/// What is wrong with the text. Shown after the file's name: `tidegate.yaml:3:5: unknown field …; did you mean …?`
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{position}: {message}{hint}")]
pub struct SettingsError {
    /// `:line:column`, where known.
    pub position: String,
    /// What is wrong.
    pub message: String,
    /// What to do, after `; `, where known.
    pub hint: String,
}

/// Reads a YAML text into `T`. Keys that are written twice are errors, and so are unknown ones where `T` denies them.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, SettingsError> {
    if text.len() > MAX_BYTES {
        return Err(SettingsError {
            position: String::new(),
            message: format!("the file is larger than {MAX_BYTES} bytes"),
            hint: String::new(),
        });
    }
    // Through a value first: it rejects duplicate keys, which structs take silently.
    serde_yaml::from_str::<serde_yaml::Value>(text).map_err(|error| explain(&error))?;
    serde_yaml::from_str(text).map_err(|error| explain(&error))
}

fn explain(error: &serde_yaml::Error) -> SettingsError {
    let position = error
        .location()
        .map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let hint = unknown_key_hint(&message).unwrap_or_default();
    SettingsError {
        position,
        message,
        hint,
    }
}

/// From serde's "unknown field `x`, expected one of `a`, `b`" to the key that was meant, after `; `.
pub fn unknown_key_hint(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field `")?;
    let (unknown, expected) = rest.split_once('`')?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let meant = nearest(unknown, known.iter().copied())?;
    Some(format!("; did you mean `{meant}`?"))
}

/// Reads `500ms`, `3s`, `10m`, `1h`, `2d`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        #[expect(dead_code, reason = "only its name counts")]
        listen: Option<String>,
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
        let error = read::<Section>("listne: x\n").unwrap_err();
        assert_eq!(error.position, ":1:1", "{error:?}");
        assert_eq!(error.hint, "; did you mean `listen`?", "{error:?}");
    }

    #[test]
    fn a_key_that_is_written_twice_is_an_error() {
        let error = read::<Section>("listen: x\nlisten: y\n").unwrap_err();
        assert!(error.message.contains("duplicate"), "{error:?}");
    }

    #[test]
    fn spans_have_a_unit_and_do_not_overflow() {
        assert_eq!(parse_span("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_span("30d"), Some(Duration::from_hours(720)));
        for wrong in [
            "",
            "5",
            "s",
            "1w",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "999999999999999d",
        ] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }
}
