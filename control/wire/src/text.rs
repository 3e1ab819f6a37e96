//! Text from strangers, made fit to be shown: in a terminal, a log, a table of Markdown.
//!
//! Owns what is escaped, and how. A name that a job asked for, a workflow's job id or a process's name is whatever an
//! attacker liked: terminal escapes, HTML, line breaks, characters that turn the reading direction. Nothing of it is
//! lost by escaping, and nothing of it is ever shown raw.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A character that a terminal or a log acts on, or that changes how the text around it is read: controls (C0, DEL,
/// C1), line and paragraph separators, and the invisible ones of Unicode's bidirectional algorithm and joiners.
pub const fn is_unprintable(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The text with every unprintable character written as `\u{1b}`. Borrowed when there is none.
pub fn printable(text: &str) -> Cow<'_, str> {
    // Nearly every text is plain ASCII, which is told in a fraction of the time.
    let plain = |byte: u8| matches!(byte, b' '..=b'~');
    if text.bytes().all(plain) || !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The text as one cell of a Markdown table, or anywhere else in Markdown: printable, and without any character that
/// Markdown or HTML acts on. Mentions (`@team`), links and images don't come about.
pub fn markdown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    for c in printable(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '|' => shown.push_str("&#124;"),
            // A reference is text to Markdown: it opens no emphasis, link, code or mention.
            '`' | '*' | '_' | '[' | ']' | '(' | ')' | '!' | '#' | '~' | '\\' | '@' | ':' | '{' | '}'
            | '"' | '\'' => {
                let _ = write!(shown, "&#{};", u32::from(c));
            }
            _ => shown.push(c),
        }
    }
    shown
}

/// The text cut to `most` characters, with `…` where something was left out.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    // No text has more characters than bytes.
    if text.len() <= most || text.chars().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(most.saturating_sub(1));
    Cow::Owned(format!("{}…", end.map_or("", |(end, _)| &text[..end])))
}

/// The text cut to `most` bytes of UTF-8, as [`cut`] does: for what a database keeps in an index, which counts bytes.
pub fn cut_bytes(text: &str, most: usize) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let kept = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len_utf8()));
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..kept]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_written_out() {
        for (raw, shown) in [
            ("github.com", "github.com"),
            ("\u{1b}[2Jevil", "\\u{1b}[2Jevil"),
            ("a\nb\r\tc", "a\\u{a}b\\u{d}\\u{9}c"),
            ("x\u{202e}moc.buhtig", "x\\u{202e}moc.buhtig"),
            ("b\u{9b}31mücher", "b\\u{9b}31mücher"),
        ] {
            assert_eq!(printable(raw), shown);
        }
    }

    #[test]
    fn markdown_and_html_are_only_text() {
        assert_eq!(
            markdown("<img src=x>|`a`[b](c)@d"),
            "&lt;img src=x&gt;&#124;&#96;a&#96;&#91;b&#93;&#40;c&#41;&#64;d"
        );
        assert_eq!(markdown("https://evil.test"), "https&#58;//evil.test");
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("bücher", 6), "bücher");
        assert_eq!(cut("bücher", 5), "büch…");
        assert_eq!(cut("x", 0), "…");
        assert_eq!(cut_bytes("bücher", 7), "bücher");
        assert_eq!(cut_bytes("bücher", 6), "bü…");
        assert_eq!(cut_bytes("bücher", 5), "b…");
    }

    proptest! {
        #[test]
        fn nothing_unprintable_is_left(text in any::<String>()) {
            prop_assert!(!printable(&text).contains(is_unprintable));
            let markdown = markdown(&text);
            prop_assert!(!markdown.contains(|c: char| is_unprintable(c) || "<>|`*_[]()!~\\@".contains(c)));
        }
    }
}
