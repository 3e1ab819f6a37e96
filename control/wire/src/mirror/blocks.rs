//! The global block list as it is synced: patterns by layer, compiled when they changed.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashSet;
use tidegate_policy::compile::block::GlobalBlock;
use tidegate_policy::document::blocklist::{BlockList, Format};

use crate::record::{BlockChange, BlockLayer, MAX_BLOCK_CHANGE};

const LAYERS: usize = BlockLayer::ALL.len();

/// Every layer.
#[derive(Debug, Default)]
pub(super) struct Blocks([Layer; LAYERS]);

/// The patterns of one layer and what they were compiled to.
#[derive(Debug, Default)]
struct Layer {
    patterns: HashSet<CompactString>,
    /// As they were before a snapshot that is being taken in.
    before: Option<HashSet<CompactString>>,
    compiled: Arc<GlobalBlock>,
    unread: usize,
    touched: bool,
    stale: bool,
}

impl Blocks {
    pub(super) fn change(&mut self, change: BlockChange) {
        let layer = &mut self.0[at(change.layer)];
        for pattern in &change.remove {
            layer.touched |= layer.patterns.remove(pattern.as_str());
        }
        for pattern in change.add {
            layer.touched |= layer.patterns.insert(pattern.into());
        }
    }

    /// Empties every layer, for a snapshot.
    pub(super) fn forget(&mut self) {
        for layer in &mut self.0 {
            layer.before = Some(std::mem::take(&mut layer.patterns));
        }
    }

    /// At the end of a batch: true when some layer holds other patterns than before.
    pub(super) fn settle(&mut self) -> bool {
        let mut any = false;
        for layer in &mut self.0 {
            let touched = std::mem::take(&mut layer.touched);
            let changed = match layer.before.take() {
                Some(before) => before != layer.patterns,
                None => touched,
            };
            layer.stale |= changed;
            any |= changed;
        }
        any
    }

    /// The layers compiled, each anew only when it changed.
    pub(super) fn layers(&mut self) -> [Arc<GlobalBlock>; LAYERS] {
        for layer in &mut self.0 {
            if std::mem::take(&mut layer.stale) {
                layer.compile();
            }
        }
        self.0.each_ref().map(|layer| Arc::clone(&layer.compiled))
    }

    pub(super) fn unread(&self) -> usize {
        self.0.iter().map(|layer| layer.unread).sum()
    }

    pub(super) fn snapshot(&self) -> impl Iterator<Item = BlockChange> + '_ {
        BlockLayer::ALL.into_iter().flat_map(|layer| {
            let mut patterns = self.0[at(layer)].patterns.iter();
            std::iter::from_fn(move || {
                let add: Vec<String> = patterns
                    .by_ref()
                    .take(MAX_BLOCK_CHANGE)
                    .map(ToString::to_string)
                    .collect();
                (!add.is_empty()).then(|| BlockChange {
                    layer,
                    add,
                    remove: Vec::new(),
                })
            })
        })
    }
}

impl Layer {
    /// The store has checked every pattern; one that an older program does not understand is left out and counted.
    fn compile(&mut self) {
        let bytes = self.patterns.iter().map(|pattern| pattern.len() + 1).sum();
        let mut text = String::with_capacity(bytes);
        for pattern in &self.patterns {
            text.push_str(pattern);
            text.push('\n');
        }
        let list = BlockList::parse_as(&text, Format::Plain);
        self.unread = self.patterns.len().saturating_sub(list.entries.len());
        self.compiled = Arc::new(GlobalBlock::build(list.entries.into_iter().map(|one| one.entry)));
    }
}

const fn at(layer: BlockLayer) -> usize {
    match layer {
        BlockLayer::Builtin => 0,
        BlockLayer::Feed => 1,
        BlockLayer::Deployment => 2,
    }
}
