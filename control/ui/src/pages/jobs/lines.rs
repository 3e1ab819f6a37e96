//! Where the rules of events stand: lines in the policies that decided, and in their endpoint sets, as their pages show
//! them.
//!
//! Owns finding a rule in a text, by reading it as words. Events don't say which set a rule is of: it is looked for in
//! those that the policy uses. The text is the newest one, which is what pages show: a rule that is not in it any more
//! has no link. It never judges.

use serde::{Deserialize, Serialize};

use super::Effective;
use super::allow::holder;
use crate::client::Api;
use crate::error::Problem;
use crate::event::{Event, Ruled};
use crate::text::url;

/// Policies that are read for one page.
const MOST: usize = 4;
/// Sets of a policy that are read.
const MOST_SETS: usize = 8;

/// The texts of some policies and of their sets.
#[derive(Debug, Default)]
pub(in crate::pages) struct Lines(Vec<Document>);

/// A text, and what it was to a decision.
#[derive(Debug)]
struct Document {
    owner: String,
    /// The policy that decided.
    policy: String,
    /// The set of it that this is; none for its own text.
    set: Option<String>,
    yaml: String,
}

#[derive(Deserialize)]
struct Text {
    yaml: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Checked {
    parsed: Option<Parsed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parsed {
    #[serde(rename = "use")]
    uses: Vec<String>,
}

impl Lines {
    /// What decided about a job, as far as it still holds where it did.
    pub(super) async fn of<'e>(
        api: &Api,
        rules: impl Iterator<Item = Ruled<'e>>,
        effective: Option<&Effective>,
    ) -> Self {
        let mut lines = Self::default();
        for ruled in rules {
            if let Some(owner) = effective.and_then(|effective| owner_in(effective, &ruled)) {
                lines.add(api, &ruled, owner).await;
            }
        }
        lines
    }

    /// What decided about one event.
    pub(in crate::pages) async fn of_one(api: &Api, ruled: &Ruled<'_>) -> Self {
        let mut lines = Self::default();
        // One that can't be read costs links, no page.
        if let Ok(Some(held)) = holder(api, ruled.scope).await
            && held.name.raw() == ruled.policy
        {
            lines.add(api, ruled, held.owner.raw().to_owned()).await;
        }
        lines
    }

    async fn add(&mut self, api: &Api, ruled: &Ruled<'_>, owner: String) {
        let is_known = |one: &Document| one.policy == ruled.policy;
        let own = self.0.iter().find(|one| is_known(one) && one.set.is_none());
        let yaml = match own {
            Some(own) => own.yaml.clone(),
            None if self.0.iter().filter(|one| one.set.is_none()).count() == MOST => return,
            None => {
                let path = url(&["orgs", &owner, "policies", ruled.policy], &[]);
                let yaml = text(api, &path).await;
                self.0.push(Document {
                    owner: owner.clone(),
                    policy: ruled.policy.to_owned(),
                    set: None,
                    yaml: yaml.clone(),
                });
                yaml
            }
        };
        if ruled.source != "set" || self.0.iter().any(|one| is_known(one) && one.set.is_some()) {
            return;
        }
        let uses = used(api, &owner, &yaml).await.unwrap_or_default();
        for set in uses.into_iter().take(MOST_SETS) {
            let path = url(&["orgs", &owner, "endpoint-sets", &set], &[]);
            self.0.push(Document {
                yaml: text(api, &path).await,
                owner: owner.clone(),
                policy: ruled.policy.to_owned(),
                set: Some(set),
            });
        }
    }

    /// Where the rule of an event stands.
    pub(super) fn href_of(&self, event: &Event) -> Option<String> {
        self.href(&event.ruled()?)
    }

    /// Where a rule stands.
    pub(in crate::pages) fn href(&self, ruled: &Ruled<'_>) -> Option<String> {
        let of_set = match ruled.source {
            "policy" => false,
            "set" => true,
            _ => return None,
        };
        let mut documents = self
            .0
            .iter()
            .filter(|one| one.policy == ruled.policy && one.set.is_some() == of_set);
        let (document, line) = documents.find_map(|one| Some((one, line_of(&one.yaml, ruled.rule)?)))?;
        // Pages show so many lines of a text at once.
        let further = if line > 500 {
            line.to_string()
        } else {
            String::new()
        };
        let (list, name) = match &document.set {
            Some(set) => ("endpoint-sets", set),
            None => ("policies", &document.policy),
        };
        let page = url(
            &["ui", "orgs", &document.owner, list, name],
            &[("line", &further)],
        );
        Some(format!("{page}#line-{line}"))
    }
}

/// A text; none where it can't be read.
async fn text(api: &Api, path: &str) -> String {
    let text = api.get::<Text>(path).await;
    text.map_or_else(|_| String::new(), |text| text.yaml)
}

/// The sets that a policy's text uses.
async fn used(api: &Api, owner: &str, yaml: &str) -> Result<Vec<String>, Problem> {
    #[derive(Serialize)]
    struct Asked<'t> {
        owner: &'t str,
        yaml: &'t str,
    }
    let checked: Checked = api
        .post(&url(&["check"], &[]), &Asked { owner, yaml })
        .await?
        .json()?;
    Ok(checked.parsed.unwrap_or_default().uses)
}

/// Whose the policy is that stands at the rule's scope, when it is the one that decided.
fn owner_in(effective: &Effective, ruled: &Ruled<'_>) -> Option<String> {
    let mut considered = effective.considered.iter();
    let held = considered
        .find(|one| one.scope.raw() == ruled.scope)?
        .policy
        .as_ref()?;
    (held.name.raw() == ruled.policy && !held.owner.is_empty()).then(|| held.owner.raw().to_owned())
}

/// The first line with the rule as a word of its own, from 1.
fn line_of(yaml: &str, rule: &str) -> Option<usize> {
    let is_rule = |line: &str| {
        let line = line.split(" #").next().unwrap_or_default();
        line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']'))
            .any(|word| {
                // A flow list may hold an IPv6 address in brackets, which were taken for the list's.
                word == rule || word == rule.trim_matches(['[', ']'])
            })
            || line.contains(rule) && rule.starts_with('[')
    };
    yaml.lines().position(is_rule).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn a_rule_is_found_in_every_style_of_list_and_in_no_comment() {
        let yaml = "egress-policy: block # a.test:443\nallowed-endpoints: >\n  a.test:443\n  b.test:80 [2001:db8::1]:53/udp\n";
        assert_eq!(line_of(yaml, "a.test:443"), Some(3));
        assert_eq!(line_of(yaml, "b.test:80"), Some(4));
        assert_eq!(line_of(yaml, "[2001:db8::1]:53/udp"), Some(4));
        assert_eq!(line_of(yaml, "test:443"), None);
        let flow = "allowed-endpoints: [\"a.test:443\", 'b.test:80']\n";
        assert_eq!(line_of(flow, "b.test:80"), Some(1));
        let block = "allowed-endpoints:\n  - a.test:443 # why\n";
        assert_eq!(line_of(block, "a.test:443"), Some(2));
    }
}
