//! The list of `allowed-endpoints`: its entries with their places, expressions kept whole.
//!
//! Pure. A workflow's value may have `${{ … }}` anywhere, with blanks and commas in it: for the separators of the list
//! that is one word.

use tidegate_policy::endpoint::list::{Placed, Token, split_placed};

/// What stands for separators inside of an expression while the list is split (private use; a host name has none).
const MASKS: [(char, char); 5] = [
    (' ', '\u{f8f0}'),
    ('\t', '\u{f8f1}'),
    ('\n', '\u{f8f2}'),
    (',', '\u{f8f3}'),
    ('#', '\u{f8f4}'),
];

/// Splits a value's characters.
pub(super) fn split(mut chars: Vec<Placed>) -> Vec<Token> {
    mask(&mut chars);
    let mut tokens = split_placed(chars);
    for token in &mut tokens {
        if is_expression(&token.text) {
            token.text = token.text.chars().map(unmasked).collect();
        }
    }
    tokens
}

/// True when a text holds what is only known when the workflow runs.
pub(super) fn is_expression(text: &str) -> bool {
    text.contains("${{")
}

/// True when the agent, which splits at spaces only, read another list than the one that is written.
pub(super) fn was_misread(text: &str) -> bool {
    !is_expression(text) && text.trim().contains(['\n', ',', '\t'])
}

fn mask(chars: &mut [Placed]) {
    let (mut inside, mut quoted) = (false, false);
    for at in 0..chars.len() {
        let next = |ahead: usize| chars.get(at + ahead).map(|one| one.char);
        let here = (next(0), next(1), next(2));
        if !inside {
            inside = here == (Some('$'), Some('{'), Some('{'));
            continue;
        }
        match here {
            (Some('\''), _, _) => quoted = !quoted,
            (Some('}'), before, _) if !quoted && before != Some('}') => inside = false,
            (Some(char), _, _) => {
                if let (Some((_, mask)), Some(one)) =
                    (MASKS.iter().find(|(from, _)| *from == char), chars.get_mut(at))
                {
                    one.char = *mask;
                }
            }
            (None, _, _) => {}
        }
    }
}

fn unmasked(char: char) -> char {
    let masked = MASKS.iter().find(|(_, mask)| *mask == char);
    masked.map_or(char, |(from, _)| *from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let placed = |char| Placed {
            char,
            line: 1,
            column: 1,
        };
        split(text.chars().map(placed).collect())
            .into_iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn an_expression_is_one_word_with_what_touches_it() {
        assert_eq!(
            words("a.test:443 ${{ vars.HOST }}:443,${{ format('{0}, }} #{1}', a, b) }} b.test # c ${{ d }}"),
            [
                "a.test:443",
                "${{ vars.HOST }}:443",
                "${{ format('{0}, }} #{1}', a, b) }}",
                "b.test",
            ]
        );
        assert_eq!(words("${{ never ends a.test"), ["${{ never ends a.test"]);
        assert_eq!(words("${{a}}${{ b }} c"), ["${{a}}${{ b }}", "c"]);
    }

    #[test]
    fn lists_that_the_agent_misread_are_known() {
        assert!(!was_misread("a.test:443 b.test:443\n"));
        assert!(was_misread("a.test:443\nb.test:443\n"));
        assert!(was_misread("a.test:443,b.test:443"));
    }
}
