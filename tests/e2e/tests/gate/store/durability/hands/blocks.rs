//! Owns who writes the global block list.

use std::collections::VecDeque;

use serde_json::json;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::{BlockLayer, Change};
use tidegate_lab::Answer;

use super::super::super::plain::{Client, Unanswered};
use super::{Fate, id_of};

/// Adds names to the block list and removes the oldest again.
pub(in super::super) struct Blocker {
    prefix: String,
    /// Ids and patterns, oldest first.
    entries: VecDeque<(String, String)>,
    open: Option<Open>,
    next: u32,
}

enum Open {
    Add(String),
    Remove,
}

/// Entries that one hand keeps on the list.
const KEPT: usize = 6;

impl Blocker {
    pub(super) fn new(number: usize) -> Self {
        Self {
            prefix: format!("blocked-{number}-"),
            entries: VecDeque::new(),
            open: None,
            next: 0,
        }
    }

    pub(super) async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
        if self.entries.len() >= KEPT {
            self.open = Some(Open::Remove);
            let path = format!("/api/v1/global-block/entries/{}", self.entries[0].0);
            admin.call("DELETE", &path, None).await?.expect(204);
            self.entries.pop_front();
        } else {
            let pattern = format!("{}{}.example.test", self.prefix, self.next);
            self.next += 1;
            self.open = Some(Open::Add(pattern.clone()));
            let entry = json!({"pattern": pattern, "reason": "a test"});
            let added = admin
                .call("POST", "/api/v1/global-block/entries", Some(&entry))
                .await?;
            let added: Answer = added.expect(201);
            self.entries.push_back((id_of(&added.json()), pattern));
        }
        self.open = None;
        Ok(())
    }

    pub(super) async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
        let path = format!(
            "/api/v1/global-block/entries?layer=deployment&search={}",
            self.prefix
        );
        let listed = admin.call("GET", &path, None).await?.expect(200).json();
        let listed = listed["items"].as_array().expect("a list");
        let has = |pattern: &str| listed.iter().find(|entry| entry["pattern"] == pattern);
        let fate = match self.open.take() {
            Some(Open::Add(pattern)) => match has(&pattern) {
                Some(entry) => {
                    self.entries.push_back((id_of(entry), pattern));
                    Fate::Stored
                }
                None => Fate::Lost,
            },
            Some(Open::Remove) if has(&self.entries[0].1).is_none() => {
                self.entries.pop_front();
                Fate::Stored
            }
            Some(Open::Remove) => Fate::Lost,
            None => Fate::None,
        };
        let mut there: Vec<&str> = listed
            .iter()
            .filter_map(|entry| entry["pattern"].as_str())
            .collect();
        there.sort_unstable();
        assert_eq!(there, self.patterns());
        Ok(fate)
    }

    fn patterns(&self) -> Vec<&str> {
        let mut patterns: Vec<&str> = self.entries.iter().map(|(_, pattern)| pattern.as_str()).collect();
        patterns.sort_unstable();
        patterns
    }

    pub(super) fn is_served(&self, mirror: &Mirror) {
        let mut served: Vec<String> = Vec::new();
        for change in mirror.snapshot() {
            if let Change::Block(block) = change
                && block.layer == BlockLayer::Deployment
            {
                served.extend(
                    block
                        .add
                        .into_iter()
                        .filter(|pattern| pattern.starts_with(&self.prefix)),
                );
            }
        }
        served.sort_unstable();
        assert_eq!(served, self.patterns());
    }
}
