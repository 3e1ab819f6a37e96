//! Tokens and issuers as gateways know them: what a registration is authenticated by while control is away.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;

use crate::oidc::Issuer;
use crate::record::TokenRecord;
use crate::secret::TokenDigest;

/// What a request is authenticated by.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    tokens: HashMap<TokenDigest, Arc<TokenRecord>>,
    /// Digests by the token's id: the stream revokes by id.
    ids: HashMap<CompactString, TokenDigest>,
    issuers: BTreeMap<String, Arc<Issuer>>,
}

impl Credentials {
    /// The token whose text has this digest. Whether it has expired is the caller's to look at.
    pub fn token(&self, digest: &TokenDigest) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(digest)
    }

    /// Every token.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<TokenRecord>> {
        self.tokens.values()
    }

    /// The issuer with this URL.
    pub fn issuer(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.issuers.get(url)
    }

    /// Every trusted issuer, by URL.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values()
    }

    pub(super) fn put_token(&mut self, token: TokenRecord) -> bool {
        if self
            .tokens
            .get(&token.digest)
            .is_some_and(|known| **known == token)
        {
            return false;
        }
        self.remove_token(&token.id);
        self.ids.insert(token.id.clone(), token.digest);
        self.tokens.insert(token.digest, Arc::new(token));
        true
    }

    pub(super) fn remove_token(&mut self, id: &str) -> bool {
        let digest = self.ids.remove(id);
        digest.is_some_and(|digest| self.tokens.remove(&digest).is_some())
    }

    pub(super) fn put_issuer(&mut self, issuer: Issuer) -> bool {
        if self.issuer(&issuer.issuer).is_some_and(|known| **known == issuer) {
            return false;
        }
        self.issuers.insert(issuer.issuer.clone(), Arc::new(issuer));
        true
    }

    pub(super) fn remove_issuer(&mut self, url: &str) -> bool {
        self.issuers.remove(url).is_some()
    }

    /// True when both hold the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.tokens == other.tokens && self.issuers == other.issuers
    }
}
