//! Changes of documents as text: what is asked for comes in, everything else stays as somebody wrote it, comments and
//! styles included.
//!
//! Pure. Each change is a few small insertions or deletions that are tried in the order of how well they look; one is
//! taken when the text, read again, says exactly what it said before and what was asked, and nothing else. So a style that
//! nobody thought of here is refused, never misread. Nothing is ever written anew as a whole.

mod list;
mod meaning;
mod section;
mod splice;
#[cfg(test)]
mod tests;

use thiserror::Error;
use tidegate_policy::document::tree::{Node, Tree, Value};
use tidegate_policy::document::{
    Diagnostic, EndpointSet, Lockdown, ParseOptions, PolicyDocument, SourcedEndpoint,
};
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::cover::covered_by;
use tidegate_policy::verdict::Mode;

use self::meaning::Meaning;
use self::splice::{Change, Text};

/// Deepest nesting that is read: that of policies.
const DEEPEST: usize = 8;
/// Bytes that are read again in all, to see what they say: many changes of a large text take too long.
const BUDGET: usize = 64 << 20;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A policy.
    Policy,
    /// An endpoint set.
    Set,
}

/// What is to become of a policy. Of a set, only `allow` and `remove` are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// The mode that it gets.
    pub mode: Option<Mode>,
    /// Endpoints that it allows from then on.
    pub allow: Vec<Endpoint>,
    /// Endpoints that it denies from then on.
    pub deny: Vec<Endpoint>,
    /// Endpoints, in their canonical spelling, that leave both lists.
    pub remove: Vec<String>,
    /// Endpoint sets that it uses from then on.
    pub use_sets: Vec<String>,
    /// What becomes of its lockdown section.
    pub lockdown: LockdownEdit,
}

/// What becomes of a lockdown section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LockdownEdit {
    /// It stays as it is, or away.
    #[default]
    Keep,
    /// It goes.
    Drop,
    /// It is to say this.
    Write(Lockdown),
}

/// A document after its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub yaml: String,
    /// What was asked to be allowed, and was so already.
    pub covered: Vec<Covered>,
}

/// An endpoint that adds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// As it was asked for, in the canonical spelling.
    pub endpoint: String,
    /// What covers it, as written.
    pub by: String,
    /// Where that stands.
    pub line: u32,
}

/// Why a document was not changed.
#[derive(Clone, Debug, Error)]
pub enum EditError {
    /// It has errors.
    #[error("the document has errors; mend them first")]
    Unreadable(Vec<Diagnostic>),
    /// It does not have what was to be taken away.
    #[error("{0} stands neither among the allowed nor among the denied endpoints")]
    NotListed(String),
    /// It is written in a manner that can't be changed without touching other things.
    #[error("{0} is written in a manner that only you can change: edit the text")]
    ByHand(&'static str),
    /// So many changes of so large a text take too long.
    #[error("so many changes of so large a document take too long: make them in parts")]
    TooMuch,
}

/// Makes the changes, one after the other, each verified.
pub fn edit(yaml: &str, kind: Kind, edits: &Edits) -> Result<Edited, EditError> {
    let mut editor = Editor {
        meaning: Meaning::of(yaml, kind).map_err(EditError::Unreadable)?,
        yaml: yaml.to_owned(),
        kind,
        spent: 0,
    };
    if !edits.remove.is_empty() {
        editor.remove(&edits.remove)?;
    }
    if kind == Kind::Policy {
        if let Some(mode) = edits.mode {
            editor.mode(mode)?;
        }
        editor.use_sets(&edits.use_sets)?;
    }
    let covered = editor.allow(&edits.allow)?;
    if kind == Kind::Policy {
        editor.deny(&edits.deny)?;
        match &edits.lockdown {
            LockdownEdit::Keep => {}
            LockdownEdit::Drop => editor.lockdown(None)?,
            LockdownEdit::Write(lockdown) => editor.lockdown(Some(lockdown))?,
        }
    }
    Ok(Edited {
        yaml: editor.yaml,
        covered,
    })
}

/// A document that is being changed, with what it says now.
struct Editor {
    yaml: String,
    kind: Kind,
    meaning: Meaning,
    /// Bytes that were read again.
    spent: usize,
}

/// The lists of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Allowed,
    Denied,
    Use,
    Detections,
}

impl List {
    /// The key that it stands at in a policy.
    const fn key(self) -> &'static str {
        match self {
            Self::Allowed => "allowed-endpoints",
            Self::Denied => "denied-endpoints",
            Self::Use => "use",
            Self::Detections => "detections",
        }
    }
}

/// Endpoints as they are written.
fn written(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

impl Editor {
    /// Takes the first of the changes after which the text says what is wanted.
    fn take(
        &mut self,
        changes: Vec<Vec<Change>>,
        wanted: Meaning,
        what: &'static str,
    ) -> Result<(), EditError> {
        for change in changes {
            let Some(text) = splice::applied(&self.yaml, change) else {
                continue;
            };
            self.spent += text.len();
            if self.spent > BUDGET {
                return Err(EditError::TooMuch);
            }
            if Meaning::of(&text, self.kind).is_ok_and(|meaning| meaning == wanted) {
                (self.yaml, self.meaning) = (text, wanted);
                return Ok(());
            }
        }
        Err(EditError::ByHand(what))
    }

    /// Something made of the document as a tree; nothing when it is none.
    fn look<T: Default>(&self, make: impl FnOnce(&Text<'_>, &Tree<'_>, &[(Node, Node)]) -> T) -> T {
        let Ok(tree) = Tree::read(&self.yaml, DEEPEST) else {
            return T::default();
        };
        make(&Text::new(&self.yaml), &tree, own_map(tree.root()))
    }

    fn mode(&mut self, mode: Mode) -> Result<(), EditError> {
        if self.meaning.mode == Some(mode) {
            return Ok(());
        }
        let mut wanted = self.meaning.clone();
        wanted.mode = Some(mode);
        let changes =
            self.look(|text, tree, map| section::set_word(text, tree, map, "egress-policy", mode.as_str()));
        self.take(changes, wanted, "`egress-policy`")
    }

    /// Adds what is not covered; says what is.
    fn allow(&mut self, asked: &[Endpoint]) -> Result<Vec<Covered>, EditError> {
        let listed = self.listed();
        let held: Vec<Endpoint> = listed.iter().map(|one| one.endpoint.clone()).collect();
        let known = covered_by(asked, &held);
        let (mut covered, mut fresh) = (Vec::new(), Vec::<Endpoint>::new());
        for (at, endpoint) in asked.iter().enumerate() {
            let by = known
                .iter()
                .find(|(one, _)| *one == at)
                .and_then(|(_, by)| listed.get(*by));
            match by {
                Some(by) => covered.push(Covered {
                    endpoint: endpoint.to_string(),
                    by: by.text.clone(),
                    line: by.line,
                }),
                None if fresh.contains(endpoint) => {}
                None => fresh.push(endpoint.clone()),
            }
        }
        self.add(List::Allowed, written(&fresh), "`allowed-endpoints`")?;
        Ok(covered)
    }

    fn listed(&self) -> Vec<SourcedEndpoint> {
        let options = ParseOptions::default();
        let list = match self.kind {
            Kind::Policy => PolicyDocument::parse(&self.yaml, &options)
                .document
                .map(|document| document.allowed_endpoints),
            Kind::Set => EndpointSet::parse(&self.yaml, &options)
                .document
                .map(|document| document.endpoints),
        };
        list.unwrap_or_default()
    }

    fn deny(&mut self, asked: &[Endpoint]) -> Result<(), EditError> {
        let mut fresh: Vec<String> = Vec::new();
        for text in written(asked) {
            if !self.meaning.denied.contains(&text) && !fresh.contains(&text) {
                fresh.push(text);
            }
        }
        self.add(List::Denied, fresh, "`denied-endpoints`")
    }

    fn use_sets(&mut self, asked: &[String]) -> Result<(), EditError> {
        let mut fresh: Vec<String> = Vec::new();
        for name in asked {
            if !self.meaning.uses.contains(name) && !fresh.contains(name) {
                fresh.push(name.clone());
            }
        }
        self.add(List::Use, fresh, "`use`")
    }

    /// Adds words to a list, all at once.
    fn add(&mut self, list: List, words: Vec<String>, what: &'static str) -> Result<(), EditError> {
        if words.is_empty() {
            return Ok(());
        }
        let mut wanted = self.meaning.clone();
        wanted.add(list, &words);
        let kind = self.kind;
        let changes = self.look(|text, tree, map| match place(tree, map, list, kind) {
            Some(value) => list::add(text, tree, value, &words),
            None => section::new_list(text, tree, map, list, &words),
        });
        self.take(changes, wanted, what)
    }

    /// Takes endpoints out of the lists that have them: whole lines at once when they stand alone there, else one by one
    /// from the last, so that the places of the others stay.
    fn remove(&mut self, asked: &[String]) -> Result<(), EditError> {
        const WHAT: &str = "the list with this endpoint";
        let mut wanted = self.meaning.clone();
        for endpoint in asked {
            if !wanted.drop_endpoint(endpoint) {
                return Err(EditError::NotListed(endpoint.clone()));
            }
        }
        let places = self.places_of(asked);
        let text = Text::new(&self.yaml);
        let lines: Option<Vec<Change>> = places
            .iter()
            .map(|token| list::whole_line(&text, token))
            .collect();
        let all = lines.map(|lines| vec![lines]).unwrap_or_default();
        match self.take(all, wanted, WHAT) {
            Err(EditError::ByHand(_)) => {}
            done => return done,
        }
        for token in places.iter().rev() {
            let mut wanted = self.meaning.clone();
            wanted.drop_one(token);
            let changes = list::without(&Text::new(&self.yaml), token);
            self.take(changes, wanted, WHAT)?;
        }
        Ok(())
    }

    /// Where these endpoints stand, in the order of the text.
    fn places_of(&self, asked: &[String]) -> Vec<list::Placed> {
        let options = ParseOptions::default();
        let mut places = Vec::new();
        let mut look = |found: &[SourcedEndpoint], list: List| {
            let listed = found.iter().map(|one| (one.endpoint.to_string(), one));
            places.extend(
                listed
                    .filter(|(text, _)| asked.contains(text))
                    .map(|(canonical, one)| list::Placed {
                        list,
                        canonical,
                        text: one.text.clone(),
                        line: one.line,
                        column: one.column,
                    }),
            );
        };
        match self.kind {
            Kind::Policy => {
                let document = PolicyDocument::parse(&self.yaml, &options)
                    .document
                    .unwrap_or_default();
                look(&document.allowed_endpoints, List::Allowed);
                look(&document.denied_endpoints, List::Denied);
            }
            Kind::Set => look(&self.listed(), List::Allowed),
        }
        places.sort_by_key(|one| (one.line, one.column));
        places
    }

    fn lockdown(&mut self, wanted: Option<&Lockdown>) -> Result<(), EditError> {
        const WHAT: &str = "`lockdown-mode`";
        let mut after = self.meaning.clone();
        after.set_lockdown(wanted);
        match (self.meaning.lockdown.is_some(), wanted) {
            _ if after == self.meaning => Ok(()),
            (true, None) => {
                let changes =
                    self.look(|text, tree, map| section::without_key(text, tree, map, "lockdown-mode"));
                self.take(changes, after, WHAT)
            }
            (false, Some(lockdown)) => {
                let changes = self.look(|text, tree, map| section::new_lockdown(text, tree, map, lockdown));
                self.take(changes, after, WHAT)
            }
            (true, Some(lockdown)) => self.change_lockdown(lockdown, WHAT),
            (false, None) => Ok(()),
        }
    }

    fn change_lockdown(&mut self, lockdown: &Lockdown, what: &'static str) -> Result<(), EditError> {
        let mut after = self.meaning.clone();
        after.enable(lockdown.enabled);
        if after != self.meaning {
            let word = if lockdown.enabled { "true" } else { "false" };
            let changes = self.look(|text, tree, map| {
                let inner = section::map_at(map, "lockdown-mode");
                section::set_word(text, tree, inner, "enabled", word)
            });
            self.take(changes, after, what)?;
        }
        let names: Vec<String> = lockdown
            .detections
            .iter()
            .map(|one| one.as_str().to_owned())
            .collect();
        let held = self.meaning.detections();
        let fresh: Vec<String> = names
            .iter()
            .filter(|name| !held.contains(name))
            .cloned()
            .collect();
        let gone: Vec<String> = held.into_iter().filter(|name| !names.contains(name)).collect();
        self.add(List::Detections, fresh, what)?;
        for name in gone {
            let mut wanted = self.meaning.clone();
            wanted.drop_detection(&name);
            let changes = self.look(|text, tree, map| {
                let value = place(tree, map, List::Detections, Kind::Policy);
                let tokens = value.map(|value| list::tokens(tree, value)).unwrap_or_default();
                let token = tokens
                    .into_iter()
                    .find(|token| token.text.eq_ignore_ascii_case(&name));
                token.map(|token| list::without(text, &token)).unwrap_or_default()
            });
            self.take(changes, wanted, what)?;
        }
        Ok(())
    }
}

/// Where a list stands; nothing when its key is not written.
fn place<'t>(tree: &'t Tree<'_>, map: &'t [(Node, Node)], list: List, kind: Kind) -> Option<&'t Node> {
    match (kind, list) {
        (Kind::Set, _) => match &tree.root().value {
            Value::Map(map) => section::entry(map, "endpoints").map(|(_, value)| value),
            Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) | Value::List(_) => {
                Some(tree.root())
            }
        },
        (Kind::Policy, List::Detections) => {
            section::entry(section::map_at(map, "lockdown-mode"), list.key()).map(|(_, value)| value)
        }
        (Kind::Policy, List::Allowed | List::Denied | List::Use) => {
            section::entry(map, list.key()).map(|(_, value)| value)
        }
    }
}

/// The policy's own mapping: the root, or the `with:` of a step that was pasted.
fn own_map(root: &Node) -> &[(Node, Node)] {
    let step = match &root.value {
        Value::List(items) => match items.as_slice() {
            [only] => only,
            _ => root,
        },
        Value::Map(_) | Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) => root,
    };
    let Value::Map(map) = &step.value else { return &[] };
    match section::entry(map, "with") {
        Some((
            _,
            Node {
                value: Value::Map(inner),
                ..
            },
        )) => inner,
        Some(_) | None => map,
    }
}
