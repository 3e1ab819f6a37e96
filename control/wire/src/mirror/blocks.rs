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
    /// How often it was taken to be compiled, and which of these it is compiled from.
    taken: u64,
    put: u64,
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

    /// Layers that changed since they were taken last, of at most `largest` patterns.
    pub(super) fn take_stale(&mut self, largest: usize) -> Vec<StaleLayer> {
        let mut stale = Vec::new();
        for kind in BlockLayer::ALL {
            let layer = &mut self.0[at(kind)];
            if layer.stale && layer.patterns.len() <= largest {
                layer.stale = false;
                layer.taken += 1;
                stale.push(layer.to_compile(kind));
            }
        }
        stale
    }

    /// Takes a compilation in, unless one of newer patterns was there first.
    pub(super) fn put(&mut self, layer: CompiledLayer) {
        let held = &mut self.0[at(layer.kind)];
        if layer.taken > held.put {
            held.put = layer.taken;
            held.compiled = layer.compiled;
            held.unread = layer.unread;
        }
    }

    /// The layers as they were compiled last.
    pub(super) fn layers(&self) -> [Arc<GlobalBlock>; LAYERS] {
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
    fn to_compile(&self, kind: BlockLayer) -> StaleLayer {
        let bytes = self.patterns.iter().map(|pattern| pattern.len() + 1).sum();
        let mut text = String::with_capacity(bytes);
        for pattern in &self.patterns {
            text.push_str(pattern);
            text.push('\n');
        }
        StaleLayer {
            kind,
            text,
            patterns: self.patterns.len(),
            taken: self.taken,
        }
    }
}

/// A layer of the global block list that has to be compiled: work that may be done elsewhere.
#[derive(Debug)]
pub struct StaleLayer {
    kind: BlockLayer,
    /// Its patterns, one a line.
    text: String,
    patterns: usize,
    taken: u64,
}

impl StaleLayer {
    /// Compiles it: about a second for a million patterns. The store has checked every pattern; one that an older
    /// program does not understand is left out and counted.
    pub fn compile(self) -> CompiledLayer {
        let list = BlockList::parse_as(&self.text, Format::Plain);
        CompiledLayer {
            kind: self.kind,
            taken: self.taken,
            unread: self.patterns.saturating_sub(list.entries.len()),
            compiled: Arc::new(GlobalBlock::build(list.entries.into_iter().map(|one| one.entry))),
        }
    }
}

/// A compiled layer, for [`Mirror::put_layer`](super::Mirror::put_layer).
#[derive(Debug)]
pub struct CompiledLayer {
    kind: BlockLayer,
    taken: u64,
    compiled: Arc<GlobalBlock>,
    unread: usize,
}

const fn at(layer: BlockLayer) -> usize {
    match layer {
        BlockLayer::Builtin => 0,
        BlockLayer::Feed => 1,
        BlockLayer::Deployment => 2,
    }
}
