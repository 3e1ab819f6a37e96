//! What jobs get at a scope that no policy of their workflow, repository or organization decides: their cluster's policy,
//! else their network's default.
//!
//! Owns where the jobs of a scope are known to run: the clusters and networks that they were seen in. What a default says
//! its gateways tell; where they don't, or differ, nobody here knows.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::job::Scope;

use super::errors;
use super::problem::Refused;
use super::seen;
use super::state::ApiState;
use crate::coverage::Table;
use crate::model::{ClusterFallBack, FallBack, FallsBack, GatewayView};

/// What a network without a default policy refuses: everything.
const DENY_ALL: &str = "egress-policy: block\nplatform: none\n";

/// Who holds scopes from then on, instead of who does.
pub(super) type Changed = HashMap<String, Option<FallBack>>;

/// What the jobs of a scope get in one cluster.
pub(super) struct Elsewhere {
    pub(super) cluster: CompactString,
    /// The cluster's policy.
    pub(super) to: Option<FallBack>,
    /// The defaults of their networks, as gateways name them.
    pub(super) defaults: BTreeSet<String>,
    /// The text of the default, when there is one for all.
    pub(super) yaml: Option<String>,
}

/// The networks of a scope's jobs in one cluster.
#[derive(Default)]
struct Ran {
    networks: BTreeSet<String>,
    /// Of some jobs only events tell: of which network, they don't.
    somewhere: bool,
}

/// Says of scopes without a wider policy what their jobs get, cluster by cluster.
pub(super) async fn fill(
    state: &ApiState,
    falls: &mut [FallsBack],
    changed: &Changed,
) -> Result<(), Refused> {
    let bare = falls.iter().filter(|fall| fall.to.is_none());
    let bare: HashSet<String> = bare.map(|fall| fall.scope.clone()).collect();
    let mut found = elsewhere(state, &bare, changed).await?;
    for fall in falls {
        let all = found.remove(&fall.scope).unwrap_or_default();
        let shown = all.into_iter().map(|one| ClusterFallBack {
            cluster: one.cluster.to_string(),
            to: one.to,
            defaults: one.defaults.into_iter().collect(),
        });
        fall.by_cluster = shown.collect();
    }
    Ok(())
}

/// What jobs get at `bare` scopes, by the clusters in which they were seen; nothing for a scope where none was.
pub(super) async fn elsewhere(
    state: &ApiState,
    bare: &HashSet<String>,
    changed: &Changed,
) -> Result<HashMap<String, Vec<Elsewhere>>, Refused> {
    if bare.is_empty() {
        return Ok(HashMap::new());
    }
    let table = seen::table(state, None).await?;
    let wanted = bare.clone();
    let ran = tokio::task::spawn_blocking(move || ran(&table, &wanted))
        .await
        .map_err(|_| errors::internal("where jobs ran could not be looked up"))?;
    let clusters: BTreeSet<&CompactString> = ran.values().flat_map(BTreeMap::keys).collect();
    let mut holders: HashMap<CompactString, Option<FallBack>> = HashMap::new();
    for cluster in clusters {
        let scope = Scope::Cluster(cluster.clone()).to_string();
        let holder = match changed.get(&scope) {
            Some(holder) => holder.clone(),
            None if cluster.is_empty() => None,
            None => state.store.egress_at(&scope).await.map_err(errors::of_query)?,
        };
        holders.insert(cluster.clone(), holder);
    }
    let gateways = state.store.gateways().await.map_err(errors::of_query)?;
    let texts = state.store.default_texts().await.map_err(errors::of_query)?;
    let told = defaults(&gateways, &texts);
    let by_scope = ran.into_iter().map(|(scope, ran)| {
        let all = ran.into_iter().map(|(cluster, ran)| {
            let found = told.get(&cluster).map(|networks| ran.defaults(networks));
            let found = found.unwrap_or_default();
            let mut texts = found.iter().map(|default| default.text.as_ref());
            let first = texts.next().flatten();
            let yaml = first
                .filter(|first| texts.all(|text| text == Some(first)))
                .cloned();
            Elsewhere {
                to: holders.get(&cluster).cloned().flatten(),
                defaults: found.into_iter().filter_map(|default| default.name).collect(),
                yaml,
                cluster,
            }
        });
        (scope, all.collect())
    });
    Ok(by_scope.collect())
}

/// A network's default, as a gateway tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    name: Option<String>,
    /// When it can be tried here.
    text: Option<String>,
}

/// What gateways tell of the networks of a cluster, by network.
type Networks = BTreeMap<CompactString, BTreeSet<Told>>;

/// What gateways tell, by cluster: thousands of them tell the same.
fn defaults(
    gateways: &[GatewayView],
    texts: &HashMap<(String, String), String>,
) -> HashMap<CompactString, Networks> {
    let mut usable: HashMap<&str, bool> = HashMap::new();
    let mut all: HashMap<CompactString, Networks> = HashMap::new();
    for gateway in gateways {
        for network in &gateway.networks {
            let place = (gateway.name.clone(), network.name.to_string());
            let told = texts.get(&place).map(String::as_str);
            let told = told.filter(|text| *usable.entry(text).or_insert_with(|| can_be_tried(text)));
            let text = match network.default_policy.as_deref() {
                Some(name) if name == "deny-all" || name.ends_with(": deny-all)") => Some(DENY_ALL),
                Some(_) => told,
                None => None,
            };
            let networks = all.entry(network.cluster.clone()).or_default();
            networks.entry(network.name.clone()).or_default().insert(Told {
                name: network.default_policy.clone(),
                text: text.map(str::to_owned),
            });
        }
    }
    all
}

/// Endpoint sets that it uses lie on its gateway.
fn can_be_tried(text: &str) -> bool {
    let document = PolicyDocument::parse(text, &ParseOptions::default()).document;
    document.is_some_and(|document| document.use_sets.is_empty())
}

impl Ran {
    /// What was told of the networks that jobs ran in.
    fn defaults(&self, networks: &Networks) -> BTreeSet<Told> {
        let of_jobs = networks
            .iter()
            .filter(|(name, _)| self.somewhere || self.networks.contains(name.as_str()));
        of_jobs.flat_map(|(_, told)| told.iter().cloned()).collect()
    }
}

/// Where jobs ran that these scopes decide about, or would if nothing narrower did.
fn ran(table: &Table, bare: &HashSet<String>) -> HashMap<String, BTreeMap<CompactString, Ran>> {
    let mut all: HashMap<String, BTreeMap<CompactString, Ran>> = HashMap::new();
    // Jobs that are known too little have the network's default already.
    for row in table.rows.iter().filter(|row| !row.below_min_assurance) {
        for scope in row.identity().scopes() {
            let scope = scope.to_string();
            let decides = row.scope.as_ref() == Some(&scope);
            if bare.contains(&scope) {
                let ran = all.entry(scope).or_default();
                let ran = ran.entry(row.cluster.as_str().into()).or_default();
                match &row.network {
                    Some(network) => {
                        ran.networks.insert(network.clone());
                    }
                    None => ran.somewhere = true,
                }
            }
            if decides {
                break;
            }
        }
    }
    all
}
