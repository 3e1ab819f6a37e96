//! Who is asking: a bearer token, looked up by its digest.
//!
//! Owns the cache of good tokens, the allowance for wrong ones, and what a caller may touch by owner. Which role may use
//! which route is [`super::access`]'s table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tidegate_control_wire::secret::{TokenDigest, digest};
use tidegate_policy::job::Scope;

use super::errors;
use super::problem::{Code, Refused};
use super::state::Clock;
use super::turns::{Bounds, Turn, Turns};
use crate::model::{Actor, Role, Token};
use crate::store::{Store, StoreError};
use crate::throttle::Throttle;

/// Tokens that are remembered.
const CACHE: usize = 4_096;
/// How long one is good without asking the store: as long as another control plane's revocation may take.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// How exactly the last use of a token is kept.
const TOUCH: SignedDuration = SignedDuration::from_secs(60);
/// Tokens that are looked up though their address has shown too many wrong ones: guessing costs the store this much.
const CROWDED: Bounds = Bounds {
    what: "lookups for addresses that show many wrong tokens",
    at_once: 4,
    waiting: 256,
    again: 1,
};
/// Logins that ask the issuer all the same; it may be slow.
const CROWDED_LOGINS: Bounds = Bounds {
    what: "logins from addresses that show much that is wrong",
    at_once: 2,
    waiting: 32,
    again: 2,
};
/// Header by which our own programs say what they are.
const VIA: &str = "tidegate-via";

/// Looks tokens up.
pub(super) struct Authenticator {
    store: Store,
    clock: Clock,
    known: Cache<TokenDigest, Known>,
    /// Grows with every revocation here: what was read before is read again.
    revocations: AtomicU64,
    wrong: Mutex<Throttle>,
    /// Turns of those whose address has shown too many wrong things.
    crowded: Turns,
    crowded_logins: Turns,
}

/// The turn of somebody whose address has shown too many wrong things.
#[derive(Debug)]
pub(super) struct Crowded {
    /// The answer, when this is wrong, too.
    refused: Refused,
    _turn: Turn,
}

#[derive(Clone)]
struct Known {
    token: Arc<Token>,
    read_at: Timestamp,
    revocations: u64,
}

/// Who is asking, authenticated.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) token: Arc<Token>,
    pub(super) actor: Actor,
}

impl Authenticator {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self {
            store,
            clock,
            known: Cache::new(CACHE),
            revocations: AtomicU64::new(0),
            wrong: Mutex::default(),
            crowded: Turns::of(CROWDED),
            crowded_logins: Turns::of(CROWDED_LOGINS),
        }
    }

    /// Some token was revoked: every other is looked up anew.
    pub(super) fn forget(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    /// Grows with every revocation here.
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// Whether the token of this id is good now, as the store says.
    pub(super) async fn is_living(&self, id: &str) -> Result<bool, StoreError> {
        match self.store.token(id).await {
            Ok(token) => Ok(token.is_good((self.clock)())),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who shows these headers.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Caller, Refused> {
        let token = self.shown(bearer(headers)?, extensions).await?;
        Ok(Caller {
            actor: Actor {
                subject: token.name.clone(),
                token_id: Some(token.id.clone()),
                via: via(headers).to_owned(),
            },
            token,
        })
    }

    /// The good token of this text, shown in a request with these extensions.
    pub(super) async fn shown(&self, text: &str, extensions: &Extensions) -> Result<Arc<Token>, Refused> {
        let shown = digest(text);
        let now = (self.clock)();
        let revocations = self.revocations.load(Ordering::SeqCst);
        let known = self.known.get(&shown);
        let token = match known {
            Some(known) if known.is_fresh(now, revocations) => known.token,
            Some(_) | None => self.look_up(shown, peer(extensions), revocations).await?,
        };
        if !token.is_good(now) {
            self.known.remove(&shown);
            return Err(wrong_token());
        }
        Ok(token)
    }

    /// As [`Self::crowd`], for a login at the issuer.
    pub(super) async fn crowded_login(&self, extensions: &Extensions) -> Result<Option<Crowded>, Refused> {
        self.crowd(peer(extensions), &self.crowded_logins).await
    }

    /// A turn for what somebody shows whose address has shown too many wrong things, and what to answer when this is
    /// wrong, too; `None` while the address has some of its allowance. What is good gets through beside whatever its
    /// neighbours show: they may be thousands behind one address, and a token of 256 bits is not found by trying.
    async fn crowd(&self, peer: IpAddr, turns: &Turns) -> Result<Option<Crowded>, Refused> {
        let allowed = self.wrong.lock().check(peer, (self.clock)());
        match allowed {
            Ok(()) => Ok(None),
            Err(seconds) => Ok(Some(Crowded {
                refused: too_many(seconds),
                _turn: turns.take().await?,
            })),
        }
    }

    /// An address showed something wrong, which `refused` says: 429 where it has shown too many.
    pub(super) fn wrong(
        &self,
        extensions: &Extensions,
        crowded: Option<Crowded>,
        refused: Refused,
    ) -> Refused {
        self.charged(peer(extensions), crowded, refused)
    }

    fn charged(&self, peer: IpAddr, crowded: Option<Crowded>, refused: Refused) -> Refused {
        if let Some(crowded) = crowded {
            return crowded.refused;
        }
        self.wrong.lock().charge(peer, (self.clock)());
        refused
    }

    /// Asks the store, at the expense of the address when the token is no good. What was read is remembered as of before
    /// it was read: a revocation in between makes it old at once.
    async fn look_up(
        &self,
        shown: TokenDigest,
        peer: IpAddr,
        revocations: u64,
    ) -> Result<Arc<Token>, Refused> {
        let crowded = self.crowd(peer, &self.crowded).await?;
        let now = (self.clock)();
        let found = self
            .store
            .token_by_digest(&shown)
            .await
            .map_err(errors::of_query)?;
        let Some(token) = found.filter(|token| token.is_good(now)) else {
            self.known.remove(&shown);
            return Err(self.charged(peer, crowded, wrong_token()));
        };
        let token = Arc::new(token);
        if token
            .last_used_at
            .is_none_or(|last| now.duration_since(last) >= TOUCH)
        {
            self.touch(token.id.clone(), now);
        }
        let known = Known {
            token: Arc::clone(&token),
            read_at: now,
            revocations,
        };
        self.known.insert(shown, known);
        Ok(token)
    }

    /// Nobody waits for the book-keeping; the store's writer takes many in one transaction, and is bounded.
    fn touch(&self, id: String, now: Timestamp) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.touch_tokens(&[(id, now)]).await {
                tracing::debug!(error = error.chain(), "a token's last use was not kept");
            }
        });
    }
}

impl Known {
    fn is_fresh(&self, now: Timestamp, revocations: u64) -> bool {
        let age = now.duration_since(self.read_at);
        self.revocations == revocations && !age.is_negative() && age < FRESH
    }
}

pub(super) fn wrong_token() -> Refused {
    Refused::unauthorized(
        Some("invalid_token"),
        "the token is not known, was revoked or has expired; make another with `tidegate token create`",
    )
}

fn too_many(seconds: u64) -> Refused {
    let detail = "too many wrong tokens were shown from this address";
    Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, detail).retry_after(seconds)
}

/// The token's text (RFC 6750 §2.1). The scheme is compared without case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let wrong = |detail: &str| Refused::unauthorized(Some("invalid_request"), detail);
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = shown.next() else {
        let detail = "show a token: `Authorization: Bearer …`; make one with `tidegate token create`";
        return Err(Refused::unauthorized(None, detail));
    };
    if shown.next().is_some() {
        return Err(wrong("`Authorization` was sent twice"));
    }
    first
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| wrong("`Authorization` has to read `Bearer` and a token"))
}

/// The address of the other end; one for all where the server did not say.
fn peer(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip())
}

/// By which way a change came, for histories. Only our own words are taken.
pub(super) fn via(headers: &HeaderMap) -> &'static str {
    match headers.get(VIA).map(axum::http::HeaderValue::as_bytes) {
        Some(b"cli") => "cli",
        Some(b"ui") => "ui",
        _ => "api",
    }
}

impl Caller {
    pub(super) fn role(&self) -> Role {
        self.token.role
    }

    /// True when the token is for some owners only.
    pub(super) fn is_limited(&self) -> bool {
        !self.token.owners.is_empty()
    }

    /// True when the token reaches an owner, written in any case.
    pub(super) fn owns(&self, owner: &str) -> bool {
        let folded = owner.to_lowercase();
        !self.is_limited() || self.token.owners.iter().any(|one| one.to_lowercase() == folded)
    }

    /// 403 for an owner that the token is not for.
    pub(super) fn check_owner(&self, owner: &str) -> Result<(), Refused> {
        if self.owns(owner) {
            return Ok(());
        }
        let (name, owners) = (&self.token.name, self.token.owners.join(", "));
        let detail = format!("token {name:?} is for the owners {owners}, not for {owner:?}");
        Err(Refused::forbidden(detail))
    }

    /// 403 for a token that is limited to owners, where something concerns all of them.
    pub(super) fn check_unlimited(&self, what: &str) -> Result<(), Refused> {
        if !self.is_limited() {
            return Ok(());
        }
        let (name, owners) = (&self.token.name, self.token.owners.join(", "));
        let detail = format!("{what} concerns every owner, and token {name:?} is for {owners} only");
        Err(Refused::forbidden(detail))
    }

    /// 403 for a scope outside of the token's owners; a cluster lies outside of every owner.
    pub(super) fn check_scope(&self, scope: &Scope) -> Result<(), Refused> {
        match scope {
            Scope::Workflow(name) | Scope::Repository(name) | Scope::Organization(name) => {
                let owner = name.split('/').next().unwrap_or_default();
                self.check_owner(owner)
            }
            Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => {
                self.check_unlimited(&scope.to_string())
            }
        }
    }

    /// The owner that a list is cut down to: the one asked for, or the only one of a limited token.
    pub(super) fn owner_filter(&self, asked: Option<&str>) -> Result<Option<String>, Refused> {
        match (asked, self.token.owners.as_slice()) {
            (Some(owner), _) => {
                self.check_owner(owner)?;
                Ok(Some(owner.to_lowercase()))
            }
            (None, []) => Ok(None),
            (None, [only]) => Ok(Some(only.to_lowercase())),
            (None, several) => {
                let detail = format!("say which owner: ?owner= one of {}", several.join(", "));
                Err(Refused::forbidden(detail).field("owner"))
            }
        }
    }

    /// True when the token reaches a network.
    pub(super) fn reaches(&self, network: &str) -> bool {
        self.token.networks.is_empty() || self.token.networks.iter().any(|one| one == network)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        // Put there by the guard, which stands before every route but the open ones.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| errors::internal("a route without a guard asked who is calling"))
    }
}

/// What a store that fails means for who asked.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        errors::of_body(error)
    }
}
