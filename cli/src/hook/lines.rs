//! What a hook writes into a job's log, and how: the Actions runner reads every line of it for commands of its own.
//!
//! Owns the escaping. The runner takes a line that begins with `::` for a command, and one that has `##[` anywhere in it
//! (its `ActionCommand`, `TryParseV2` and `TryParse`), whether it came by stdout or by stderr. So strangers' text never
//! brings a line's beginning, its end, or that mark. Pure: nothing is printed here.

use tidegate_control_wire::text::{cut, printable};

/// Longest text of one line, in characters.
const MAX_LINE: usize = 1_000;

/// How much an annotation weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Something that the job's people have to see.
    Error,
    /// Something that went wrong without harm to the job.
    Warning,
    /// Something worth knowing.
    Notice,
}

impl Weight {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// A line of the log. What it says stays one line and is no command.
pub(super) fn line(text: &str) -> String {
    format!("tidegate: {}", shown(text))
}

/// A command that makes an annotation.
pub(super) fn annotation(weight: Weight, title: &str, text: &str) -> String {
    format!(
        "::{} title={}::{}",
        weight.as_str(),
        property(&shown(title)),
        data(&shown(text))
    )
}

/// One line of printable text without the mark of the runner's older commands.
fn shown(text: &str) -> String {
    cut(&printable(text), MAX_LINE).replace("##[", "##\\[")
}

/// Text of a command, as the runner unescapes it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a command: `:` would end the command's head, `,` the property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the runner would read from a line, by its own rules: the newer command, else the older one.
    fn command(line: &str) -> Option<(String, String, String)> {
        if let Some(rest) = line.trim_start().strip_prefix("::") {
            let (head, text) = rest.split_once("::")?;
            let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
            return Some((name.into(), properties.into(), text.into()));
        }
        let (_, rest) = line.split_once("##[")?;
        let (head, text) = rest.split_once(']')?;
        Some((head.into(), String::new(), text.into()))
    }

    /// As the runner unescapes, in its order.
    fn unescaped(text: &str) -> String {
        ["%0D\r", "%0A\n", "%3A:", "%2C,", "%25%"]
            .iter()
            .fold(text.to_owned(), |text, map| text.replace(&map[..3], &map[3..]))
    }

    #[test]
    fn hostile_names_start_no_command() {
        for hostile in [
            "::error::x",
            "a\n::add-mask::secret",
            "a\r::set-env name=X::y",
            "##[add-path]/tmp/evil",
            "x ##[command]y",
            "\u{1b}[2J::stop-commands::t",
        ] {
            let shown = line(hostile);
            assert_eq!(command(&shown), None, "{shown}");
            assert_eq!(shown.lines().count(), 1, "{shown}");
        }
    }

    #[test]
    fn an_annotation_is_one_command_with_its_text() {
        let shown = annotation(Weight::Error, "a,b:c", "100% evil::x\nsecond");
        assert_eq!(shown, "::error title=a%2Cb%3Ac::100%25 evil::x\\u{a}second");
    }

    proptest! {
        #[test]
        fn no_text_gets_out_of_its_line_or_its_annotation(title in any::<String>(), text in any::<String>()) {
            let shown = line(&text);
            prop_assert_eq!(command(&shown), None);
            prop_assert!(!shown.contains(['\n', '\r']));
            let shown = annotation(Weight::Warning, &title, &text);
            prop_assert!(!shown.contains(['\n', '\r']));
            let (name, properties, data) = command(&shown).expect("a command");
            prop_assert_eq!(name, "warning");
            prop_assert!(!properties.contains(','), "{}", properties);
            prop_assert!(properties.starts_with("title="), "{}", properties);
            prop_assert_eq!(unescaped(&data), super::shown(&text));
        }
    }
}
