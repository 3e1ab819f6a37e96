//! Policies from files: reading, compiling, and keeping the last good version of each.
//!
//! Owns the way from the paths of the configuration to a [`PolicySet`]. A file that became unreadable or
//! wrong is refused with its diagnostics and its last good version stays; one that never was good makes
//! its place deny-all (`policy-unknown`), never a looser default. Driven by [`crate::appliance`] at start, on
//! reload and when `watch` sees a change.

mod kept;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use tidegate_control_wire::frame::MAX_DEFAULT_POLICY;
use tidegate_control_wire::record::BlockLayer;
use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks};
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::blocklist::BlockList;
use tidegate_policy::document::{EndpointSet, ParseOptions, PolicyDocument, platform};
use tidegate_policy::ech::EchLedger;
use tidegate_policy::effective::{Attached, NetworkPolicies, PolicySet, Slot, Store};
use tidegate_policy::job::Scope;
use tidegate_policy::rulebook::{CompiledPolicy, InternalDomains, PolicyMeta, RuleList, World};
use tidegate_policy::special::NeverDial;

use crate::config::GatewayConfig;

pub use kept::FileReport;
use kept::{Kept, endpoint_set, errors_of, lines_left_out, read, report};

/// A policy file larger than this is refused; block lists may be larger.
const MAX_POLICY: u64 = 1 << 20;
/// A block list larger than this is refused: about 16 million names.
const MAX_LIST: u64 = 512 << 20;

/// Every file that policies come from, with what was last good in each.
pub struct PolicyFiles {
    pack: Arc<RuleList>,
    ech: Arc<EchLedger>,
    policies: HashMap<PathBuf, Kept<PolicyDocument>>,
    compiled: HashMap<PathBuf, Compiled>,
    sets: HashMap<PathBuf, Kept<EndpointSet>>,
    always: HashMap<PathBuf, Kept<Arc<RuleList>>>,
    lists: HashMap<PathBuf, Kept<BlockList>>,
    world: Option<Arc<World>>,
    global: Arc<GlobalBlock>,
    global_versions: Vec<(PathBuf, u32)>,
}

/// What the control plane's records make of a policy set beside the files. The default is that there is none.
#[derive(Debug, Default)]
pub struct Synced {
    /// What is attached to which scope.
    pub attached: HashMap<Scope, Attached>,
    /// The egress facets of its policies by `owner/name`.
    pub named: Arc<HashMap<CompactString, Slot>>,
    /// Its layers of the global block list.
    pub layers: [Arc<GlobalBlock>; BlockLayer::ALL.len()],
    /// Whether it was ever read.
    pub store: Store,
}

/// The last good compilation of a policy, and what it was made from.
struct Compiled {
    policy: Arc<CompiledPolicy>,
    version: u32,
    sets: Vec<(String, u32)>,
}

impl PolicyFiles {
    /// Nothing read yet.
    pub fn new() -> Self {
        let pack = platform::pack()
            .endpoints
            .iter()
            .map(|one| (one, RuleSource::Platform));
        Self {
            pack: Arc::new(RuleList::compile(pack)),
            ech: Arc::default(),
            policies: HashMap::new(),
            compiled: HashMap::new(),
            sets: HashMap::new(),
            always: HashMap::new(),
            lists: HashMap::new(),
            world: None,
            global: Arc::default(),
            global_versions: Vec::new(),
        }
    }

    /// Reads what changed and compiles everything that the configuration names.
    pub fn load(&mut self, config: &GatewayConfig, never_dial: NeverDial, synced: &Synced) -> PolicySet {
        self.read_all(config);
        self.assemble(config, never_dial, synced)
    }

    /// The same from what was read last: nothing waits for a disk.
    pub fn assemble(&mut self, config: &GatewayConfig, never_dial: NeverDial, synced: &Synced) -> PolicySet {
        let sets: HashMap<String, EndpointSet> = config
            .endpoint_sets
            .iter()
            .filter_map(|(name, path)| Some((name.clone(), self.sets.get(path)?.good.clone()?)))
            .collect();
        let set_versions: BTreeMap<String, u32> = config
            .endpoint_sets
            .iter()
            .filter_map(|(name, path)| Some((name.clone(), self.sets.get(path)?.version)))
            .collect();
        self.compile(&sets, &set_versions);
        let networks = config.networks.iter().map(|network| {
            let always_allow = network
                .always_allow
                .as_ref()
                .and_then(|path| self.always.get(path)?.good.clone());
            (
                network.name.clone(),
                NetworkPolicies {
                    default: self.slot(network.default_policy.as_deref()),
                    always_allow,
                },
            )
        });
        let pinned = config.static_leases.iter().filter_map(|lease| {
            let path = lease.policy.as_ref()?;
            Some((pinned_key(path), self.compiled(path)?))
        });
        PolicySet {
            networks: networks.collect(),
            default: self.slot(config.default_policy.as_deref()),
            pinned: pinned.collect(),
            world: self.world(config, never_dial, synced),
            attached: synced.attached.clone(),
            named: Arc::clone(&synced.named),
            store: if self.lists_known() {
                synced.store
            } else {
                Store::NeverRead
            },
        }
    }

    /// The text of a policy that is in force as it was read last, for who has none of the gateway's files: nothing for one
    /// that uses sets, which lie here too, or that is too long to be told.
    pub(crate) fn text_to_tell(&self, path: &Path) -> Option<&str> {
        let kept = self.policies.get(path).filter(|kept| kept.problem.is_none())?;
        kept.good
            .as_ref()
            .filter(|document| document.use_sets.is_empty())?;
        kept.text
            .as_deref()
            .filter(|text| text.len() <= MAX_DEFAULT_POLICY)
    }

    /// How every file is, in the order of their paths.
    pub fn report(&self) -> Vec<FileReport> {
        let policies = self.policies.iter().map(|(path, kept)| report(path, kept));
        let sets = self.sets.iter().map(|(path, kept)| report(path, kept));
        let always = self.always.iter().map(|(path, kept)| report(path, kept));
        let lists = self.lists.iter().map(|(path, kept)| {
            let lines = kept
                .good
                .as_ref()
                .and_then(|list| lines_left_out(&list.diagnostics));
            let whole = report(path, kept);
            FileReport {
                problem: whole.problem.clone().or(lines),
                ..whole
            }
        });
        let mut all: Vec<FileReport> = policies.chain(sets).chain(always).chain(lists).collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        all
    }

    fn read_all(&mut self, config: &GatewayConfig) {
        let named = policy_paths(config);
        self.policies.retain(|path, _| named.contains(path));
        for path in named {
            self.policies
                .entry(path.clone())
                .or_default()
                .refresh(&path, MAX_POLICY, |text| {
                    let parsed = PolicyDocument::parse(text, &ParseOptions::default());
                    parsed.document.ok_or_else(|| {
                        errors_of(&parsed.diagnostics, text, &path).unwrap_or_else(|| "not a policy".into())
                    })
                });
        }
        self.sets
            .retain(|path, _| config.endpoint_sets.iter().any(|(_, named)| named == path));
        for (_, path) in &config.endpoint_sets {
            self.sets
                .entry(path.clone())
                .or_default()
                .refresh(path, MAX_POLICY, |text| endpoint_set(text, path));
        }
        let always: Vec<&PathBuf> = config
            .networks
            .iter()
            .filter_map(|one| one.always_allow.as_ref())
            .collect();
        self.always.retain(|path, _| always.contains(&path));
        for path in always {
            self.always
                .entry(path.clone())
                .or_default()
                .refresh(path, MAX_POLICY, |text| {
                    let set = endpoint_set(text, path)?;
                    Ok(Arc::new(RuleList::compile(
                        set.endpoints.iter().map(|one| (one, RuleSource::Host)),
                    )))
                });
        }
        self.lists.retain(|path, _| config.global_block.contains(path));
        for path in &config.global_block {
            self.lists
                .entry(path.clone())
                .or_default()
                .refresh(path, MAX_LIST, |text| {
                    let list = BlockList::parse(text);
                    if let Some(problem) = errors_of(&list.diagnostics, text, path) {
                        tracing::warn!("some lines of the global block list are not understood:\n{problem}");
                    }
                    Ok(list)
                });
        }
    }

    /// What all jobs share: the same pointer as before when nothing of it changed, so that no rulebook is
    /// swapped for it.
    fn world(&mut self, config: &GatewayConfig, never_dial: NeverDial, synced: &Synced) -> Arc<World> {
        let [builtin, feed, deployment] = synced.layers.each_ref().map(Arc::clone);
        let world = World {
            global: GlobalBlocks::new([self.global_block(config), builtin, feed, deployment]),
            never_dial,
            internal: InternalDomains::new(config.dns.internal_domains.clone()),
            ech: Arc::clone(&self.ech),
            destination: config.proxy.destination,
        };
        let same = |old: &Arc<World>| {
            old.global.is_same(&world.global)
                && old.never_dial == world.never_dial
                && old.internal == world.internal
                && old.destination == world.destination
        };
        if let Some(old) = self.world.as_ref().filter(|old| same(old)) {
            return Arc::clone(old);
        }
        let world = Arc::new(world);
        self.world = Some(Arc::clone(&world));
        world
    }

    fn slot(&self, path: Option<&Path>) -> Slot {
        let Some(path) = path else { return Slot::Vacant };
        self.compiled(path)
            .map_or_else(|| Slot::Unknown(meta(path, 0)), Slot::Policy)
    }

    /// While some global block list was never read there are no policies: what everybody is refused comes
    /// before any of them.
    fn lists_known(&self) -> bool {
        self.lists.values().all(|list| list.good.is_some())
    }

    /// The policy of a file.
    fn compiled(&self, path: &Path) -> Option<Arc<CompiledPolicy>> {
        self.compiled
            .get(path)
            .filter(|_| self.lists_known())
            .map(|compiled| Arc::clone(&compiled.policy))
    }

    /// Compiles every policy whose text, or one of whose sets, changed since. One that does not compile
    /// keeps its last good compilation.
    fn compile(&mut self, sets: &HashMap<String, EndpointSet>, versions: &BTreeMap<String, u32>) {
        self.compiled.retain(|path, _| self.policies.contains_key(path));
        for (path, kept) in &mut self.policies {
            let Some(document) = &kept.good else { continue };
            let used: Vec<(String, u32)> = document
                .use_sets
                .iter()
                .map(|name| (name.clone(), versions.get(name).copied().unwrap_or_default()))
                .collect();
            let known = self.compiled.get(path);
            if known.is_some_and(|known| known.version == kept.version && known.sets == used) {
                continue;
            }
            match CompiledPolicy::compile(document, meta(path, kept.version), sets, &self.pack) {
                Ok(policy) => {
                    let compiled = Compiled {
                        policy: Arc::new(policy),
                        version: kept.version,
                        sets: used,
                    };
                    self.compiled.insert(path.clone(), compiled);
                    if kept.text.is_some() {
                        kept.problem = None;
                    }
                }
                Err(error) => kept.refuse(path, error.to_string()),
            }
        }
    }

    /// The block list of all files, compiled anew only when one of them changed.
    fn global_block(&mut self, config: &GatewayConfig) -> Arc<GlobalBlock> {
        let versions: Vec<(PathBuf, u32)> = config
            .global_block
            .iter()
            .filter_map(|path| Some((path.clone(), self.lists.get(path)?.version)))
            .collect();
        if versions != self.global_versions {
            let lists = config
                .global_block
                .iter()
                .filter_map(|path| self.lists.get(path)?.good.as_ref());
            let entries = lists.flat_map(|list| list.entries.iter().map(|one| one.entry.clone()));
            self.global = Arc::new(GlobalBlock::build(entries));
            self.global_versions = versions;
        }
        Arc::clone(&self.global)
    }
}

impl Default for PolicyFiles {
    fn default() -> Self {
        Self::new()
    }
}

/// The key under which a static lease's own policy stands in the [`PolicySet`].
pub fn pinned_key(path: &Path) -> CompactString {
    path.to_string_lossy().as_ref().into()
}

/// Every file that the configuration names for policies, sets and lists: what is watched.
pub fn watched_paths(config: &GatewayConfig) -> Vec<PathBuf> {
    let mut paths = policy_paths(config);
    paths.extend(config.endpoint_sets.iter().map(|(_, path)| path.clone()));
    paths.extend(
        config
            .networks
            .iter()
            .filter_map(|network| network.always_allow.clone()),
    );
    paths.extend(config.global_block.iter().cloned());
    paths
}

fn policy_paths(config: &GatewayConfig) -> Vec<PathBuf> {
    let networks = config
        .networks
        .iter()
        .filter_map(|network| network.default_policy.clone());
    let leases = config
        .static_leases
        .iter()
        .filter_map(|lease| lease.policy.clone());
    let mut paths: Vec<PathBuf> = networks
        .chain(leases)
        .chain(config.default_policy.clone())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn meta(path: &Path, version: u32) -> PolicyMeta {
    let name: CompactString = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .as_ref()
        .into();
    PolicyMeta {
        id: name.clone(),
        name,
        version,
    }
}

/// Compiles one policy file with the sets that it may use, for `tidegate explain`. The error is the rendered
/// diagnostics, or one sentence.
pub fn compile_file(path: &Path, sets: &[(String, PathBuf)]) -> Result<CompiledPolicy, String> {
    let text = read(path, MAX_POLICY)?;
    let parsed = PolicyDocument::parse(&text, &ParseOptions::default());
    let document = parsed.document.ok_or_else(|| {
        errors_of(&parsed.diagnostics, &text, path)
            .unwrap_or_else(|| format!("{} is not a policy", path.display()))
    })?;
    let mut known = HashMap::new();
    for (name, file) in sets {
        known.insert(name.clone(), endpoint_set(&read(file, MAX_POLICY)?, file)?);
    }
    CompiledPolicy::compile(&document, meta(path, 0), &known, &PolicyFiles::new().pack)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
