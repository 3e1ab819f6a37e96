//! Lists of endpoints as people write them: separated by spaces, newlines or commas, `#` to the end of
//! a line is a comment; every token keeps its place.
//!
//! Works on characters that already have a place, so that the same code serves a plain string and the
//! scalars of a document (`document/place.rs`).

/// A character and where it stands, counted from 1 in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The character.
    pub char: char,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// One entry of a list and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The entry, without separators.
    pub text: String,
    /// Line, from 1.
    pub line: u32,
    /// Column of its first character, from 1.
    pub column: u32,
}

/// Splits plain text; places count from line 1, column 1.
pub fn split(text: &str) -> Vec<Token> {
    let (mut line, mut column) = (1, 1);
    split_placed(text.chars().map(|char| {
        let placed = Placed { char, line, column };
        if char == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
        placed
    }))
}

/// Splits characters that have places already. A comment ends where the line of the *source* ends, so
/// that one in a folded scalar, where newlines became spaces, does not swallow what follows.
pub fn split_placed(chars: impl IntoIterator<Item = Placed>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut inside = false;
    let mut comment: Option<u32> = None;
    for placed in chars {
        if placed.char == '\n' || comment.is_some_and(|line| line != placed.line) {
            comment = None;
        }
        if comment.is_some() || placed.char.is_whitespace() || placed.char == ',' {
            inside = false;
        } else if placed.char == '#' && !inside {
            comment = Some(placed.line);
        } else if let (true, Some(token)) = (inside, tokens.last_mut()) {
            token.text.push(placed.char);
        } else {
            inside = true;
            tokens.push(Token {
                text: placed.char.into(),
                line: placed.line,
                column: placed.column,
            });
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(String, u32, u32)> {
        split(text)
            .into_iter()
            .map(|token| (token.text, token.line, token.column))
            .collect()
    }

    #[test]
    fn separators_and_comments() {
        let text =
            "a.example:443,b.example:443\n  c.example # not,this one\n\t#nor this\nd.example,,#x\n e\r\nf";
        let expected = [
            ("a.example:443", 1, 1),
            ("b.example:443", 1, 15),
            ("c.example", 2, 3),
            ("d.example", 4, 1),
            ("e", 5, 2),
            ("f", 6, 1),
        ];
        assert_eq!(
            places(text),
            expected.map(|(text, line, column)| (text.to_owned(), line, column))
        );
    }

    #[test]
    fn a_hash_inside_of_a_token_is_no_comment() {
        assert_eq!(places("a#b c"), [("a#b".into(), 1, 1), ("c".into(), 1, 5)]);
    }

    #[test]
    fn nothing_but_separators_is_an_empty_list() {
        assert_eq!(places(" \n,, # x\n"), []);
    }
}
