//! Tokens: what each may do and how long, known by the digest of its text. The text itself never comes here. Sessions are
//! tokens of a kind of their own ([`sessions`]).

/// Every column of [`read_token`].
macro_rules! tokens {
    ($rest:literal) => {
        concat!(
            "SELECT id, role, name, owners, repos, networks, cluster, created_at, created_by, expires_at, revoked_at, \
             last_used_at, kind, parent, person FROM tokens ",
            $rest
        )
    };
}

mod listed;
mod sessions;
mod wanted;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::secret::TokenDigest;

use super::audit::cleaned;
use super::read::{self, get, to_json};
use super::{AuditDraft, ChangeKind, Micros, Store, StoreError, Tx};
use crate::model::{Actor, NewToken, Role, Token, TokenKind};

/// Between two writes of when a token was last shown, in microseconds.
const TOUCH: i64 = 60_000_000;

impl Store {
    /// Records a token. Its limits are checked and brought into canonical form: owners and repositories in lower case.
    /// A runner's token names owners or repositories; a gateway's is named as its gateway.
    pub async fn create_token(
        &self,
        wanted: &NewToken,
        digest: &TokenDigest,
        actor: &Actor,
    ) -> Result<Token, StoreError> {
        let wanted = wanted::canonical(wanted)?;
        let (digest, actor) = (digest.to_string(), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.create_token(wanted, &digest, &actor).await }))
            .await
    }

    /// A token by its id.
    pub async fn token(&self, id: &str) -> Result<Token, StoreError> {
        read::storable(id).ok_or_else(|| missing(id))?;
        let row = sqlx::query(tokens!("WHERE id = $1"))
            .bind(id)
            .fetch_optional(self.db.read())
            .await?;
        read_token(&row.ok_or_else(|| missing(id))?)
    }

    /// The token whose text has this digest, be it good or not: the caller looks at `revoked_at` and `expires_at`.
    pub async fn token_by_digest(&self, digest: &TokenDigest) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query(tokens!("WHERE digest = $1"))
            .bind(digest.to_string())
            .fetch_optional(self.db.read())
            .await?;
        row.as_ref().map(read_token).transpose()
    }

    /// Takes a token back, and with it the sessions that it was shown for. One that was taken back before stays as it was.
    pub async fn revoke_token(&self, id: &str, actor: &Actor) -> Result<Token, StoreError> {
        read::storable(id).ok_or_else(|| missing(id))?;
        let (id, actor) = (id.to_owned(), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.revoke_token(&id, &actor).await }))
            .await
    }

    /// Notes when tokens were last shown, each at most once a minute; what is noted never goes back.
    pub async fn touch_tokens(&self, shown: &[(String, Timestamp)]) -> Result<(), StoreError> {
        if shown.is_empty() {
            return Ok(());
        }
        let shown = shown.to_vec();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    for (id, at) in shown {
                        tx.touch_token(&id, Micros(0), Micros::from(at)).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Whether somebody can do everything: a living admin token without limits. A session is none: tomorrow it is gone.
    pub async fn has_admin(&self) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT id FROM tokens WHERE kind = 'token' AND role = 'admin' AND owners = '[]' AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1) LIMIT 1",
        )
        .bind(Micros::now().0)
        .fetch_optional(self.db.read())
        .await?;
        Ok(row.is_some())
    }
}

impl Tx<'_> {
    /// Notes when a token was shown, at most once a minute; what is noted never goes back. `before` is when it was shown
    /// before, as far as that is known already.
    pub(super) async fn touch_token(
        &mut self,
        id: &str,
        before: Micros,
        shown: Micros,
    ) -> Result<(), StoreError> {
        let at = shown.min(self.now()).0;
        if before.0 > at - TOUCH {
            return Ok(());
        }
        let sql = "UPDATE tokens SET last_used_at = $1 WHERE id = $2 AND COALESCE(last_used_at, 0) <= $3";
        let query = sqlx::query(sql).bind(at).bind(id).bind(at - TOUCH);
        query.execute(self.connection()).await?;
        Ok(())
    }

    async fn create_token(
        &mut self,
        wanted: NewToken,
        digest: &str,
        actor: &Actor,
    ) -> Result<Token, StoreError> {
        let now = self.now();
        if wanted.expires_at.is_some_and(|at| Micros::from(at) <= now) {
            return Err(StoreError::invalid("expires_at", "it lies in the past"));
        }
        let id = new_id("tok");
        let stored = sqlx::query(
            "INSERT INTO tokens (id, digest, role, name, owners, repos, networks, cluster, created_at, created_by, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&id)
        .bind(digest)
        .bind(wanted.role.as_str())
        .bind(&wanted.name)
        .bind(to_json(&wanted.owners)?)
        .bind(to_json(&wanted.repos)?)
        .bind(to_json(&wanted.networks)?)
        .bind(wanted.cluster.as_deref())
        .bind(now.0)
        .bind(cleaned(actor).subject)
        .bind(wanted.expires_at.map(|at| Micros::from(at).0))
        .execute(&mut *self.connection())
        .await?;
        if stored.rows_affected() == 0 {
            let reason = "a token with this text is there already".to_owned();
            return Err(StoreError::Conflict { reason });
        }
        if is_synced(wanted.role) {
            self.change(ChangeKind::Token, &id).await?;
        }
        let token = self.token(&id).await?;
        self.audit_token("token.created", &token, told(&token), actor)
            .await?;
        Ok(token)
    }

    async fn revoke_token(&mut self, id: &str, actor: &Actor) -> Result<Token, StoreError> {
        let revoked = sqlx::query("UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
            .bind(self.now().0)
            .bind(id)
            .execute(&mut *self.connection())
            .await?;
        let token = self.token(id).await?;
        if revoked.rows_affected() > 0 {
            if is_synced(token.role) {
                self.change(ChangeKind::Token, id).await?;
            }
            let mut detail = told(&token);
            detail["sessions"] = self.end_sessions_of(id).await?.into();
            self.audit_token("token.revoked", &token, detail, actor).await?;
        }
        Ok(token)
    }

    async fn token(&mut self, id: &str) -> Result<Token, StoreError> {
        let row = sqlx::query(tokens!("WHERE id = $1"))
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        read_token(&row.ok_or_else(|| missing(id))?)
    }

    async fn audit_token(
        &mut self,
        action: &'static str,
        token: &Token,
        detail: Value,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let draft = AuditDraft {
            action,
            owner: "",
            target: format!("{} {}", token.kind.as_str(), token.id),
            policy_id: None,
            detail,
        };
        self.audit(draft, actor).await
    }
}

/// What histories say of a token.
fn told(token: &Token) -> Value {
    json!({
        "role": token.role.as_str(),
        "name": token.name,
        "owners": token.owners,
        "repos": token.repos,
        "networks": token.networks,
        "cluster": token.cluster,
        "expires_at": token.expires_at.map(|at| at.to_string()),
    })
}

/// Gateways have to recognize these by themselves.
fn is_synced(role: Role) -> bool {
    match role {
        Role::Runner | Role::Provisioner => true,
        Role::Admin | Role::Editor | Role::Viewer | Role::Gateway => false,
    }
}

fn missing(id: &str) -> StoreError {
    StoreError::not_found(format!("token {id:?}"))
}

fn read_token(row: &AnyRow) -> Result<Token, StoreError> {
    let time = |column| -> Result<Option<Timestamp>, StoreError> {
        Ok(get::<Option<i64>>(row, column)?.map(|at| Micros(at).timestamp()))
    };
    Ok(Token {
        id: get(row, "id")?,
        role: read::word("a token's role", get(row, "role")?)?,
        name: get(row, "name")?,
        owners: read::json("a token's owners", get(row, "owners")?)?,
        repos: read::json("a token's repositories", get(row, "repos")?)?,
        networks: read::json("a token's networks", get(row, "networks")?)?,
        cluster: get(row, "cluster")?,
        created_at: Micros(get(row, "created_at")?).timestamp(),
        created_by: get(row, "created_by")?,
        expires_at: time("expires_at")?,
        revoked_at: time("revoked_at")?,
        last_used_at: time("last_used_at")?,
        kind: kind(get(row, "kind")?)?,
        parent: get(row, "parent")?,
        person: get(row, "person")?,
    })
}

fn kind(text: &str) -> Result<TokenKind, StoreError> {
    read::word("a token's kind", text)
}
