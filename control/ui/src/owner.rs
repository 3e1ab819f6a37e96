//! The organization that a list is of: what its address says, else the one that is chosen in the bar.
//!
//! Owns how "every organization" is written, which is not the same as nothing: after a choice in the bar, nothing means
//! that choice.

use serde::Deserialize;

use crate::text::Text;

/// Every organization, in addresses. No organization is called so.
const EVERY: &str = "*";

/// `owner` of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Owner {
    name: String,
    word: Word,
}

/// Whose word it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    /// Nobody's: every organization.
    #[default]
    None,
    /// The bar's.
    Bar,
    /// The address's; without a name it means every one.
    Address,
}

impl From<String> for Owner {
    fn from(said: String) -> Self {
        let name = said.trim();
        Self {
            name: if name == EVERY { "" } else { name }.to_owned(),
            word: Word::Address,
        }
    }
}

impl Owner {
    /// Where nothing was said, that which is chosen in the bar, unless something narrower is asked for.
    pub(crate) fn settle(&mut self, chosen: &str, is_narrower: bool) {
        if self.word == Word::None && !is_narrower && !chosen.is_empty() {
            chosen.clone_into(&mut self.name);
            self.word = Word::Bar;
        }
    }

    /// Its name, for the API; empty for every one.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// For addresses.
    pub(crate) fn said(&self) -> &str {
        match self.word {
            Word::Address if self.name.is_empty() => EVERY,
            Word::None | Word::Bar | Word::Address => &self.name,
        }
    }

    /// For a form's field.
    pub(crate) fn shown(&self) -> Text {
        self.name().into()
    }

    /// Somebody narrowed the list to it.
    pub(crate) fn is_filter(&self) -> bool {
        self.word == Word::Address && !self.name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_means_the_chosen_one_and_every_one_is_said() {
        let of = |said: Option<&str>, narrower| {
            let mut owner = said.map_or_else(Owner::default, |said| Owner::from(said.to_owned()));
            owner.settle("acme", narrower);
            (owner.name().to_owned(), owner.said().to_owned())
        };
        let pair = |name: &str, said: &str| (name.to_owned(), said.to_owned());
        assert_eq!(of(None, false), pair("acme", "acme"));
        assert_eq!(of(None, true), pair("", ""));
        assert_eq!(of(Some(" beta "), false), pair("beta", "beta"));
        assert_eq!(of(Some(""), false), pair("", "*"));
        assert_eq!(of(Some("*"), true), pair("", "*"));
        let mut owner = Owner::default();
        owner.settle("", false);
        assert_eq!(owner.said(), "");
    }
}
