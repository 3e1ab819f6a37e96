//! Sessions: tokens that a login makes, with a person's name and a short life.
//!
//! Owns how a session comes out of a token or of a person, that it never outlives the token it came of, and how it ends.

use serde_json::Value;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::secret::TokenDigest;

use super::{missing, read_token, told};
use crate::model::{Actor, NewSession, Proven, Role, Token, TokenKind};
use crate::store::read::{self, to_json};
use crate::store::{Micros, Store, StoreError, Tx, names};

/// Living sessions of one token or of one person at most; one more ends the oldest.
const MOST: i64 = 50;
/// Of those that are too many, how many one login ends at most.
const ENDED_AT_ONCE: i64 = 1_000;
/// Longest name of a person, in characters.
const MAX_NAME: usize = 128;

/// What is stored of a session besides its times.
struct Draft {
    role: Role,
    name: String,
    owners: Vec<String>,
    parent: Option<String>,
    person: Option<String>,
    expires_at: Micros,
}

impl Store {
    /// Records a session and answers it, with how many older ones had to end for it. A token that is not good any more
    /// is [`StoreError::NotFound`]: it is looked at again here, where nobody can take it back meanwhile.
    pub async fn create_session(
        &self,
        wanted: &NewSession,
        digest: &TokenDigest,
        via: &str,
    ) -> Result<(Token, u64), StoreError> {
        let (wanted, digest, via) = (wanted.clone(), digest.to_string(), via.to_owned());
        self.db
            .write(move |tx| Box::pin(async move { tx.create_session(wanted, &digest, via).await }))
            .await
    }

    /// Ends a session. One that ended before stays as it was.
    pub async fn end_session(&self, id: &str, actor: &Actor) -> Result<Token, StoreError> {
        read::storable(id).ok_or_else(|| no_session(id))?;
        let (id, actor) = (id.to_owned(), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.end_session(&id, &actor).await }))
            .await
    }
}

impl Tx<'_> {
    async fn create_session(
        &mut self,
        wanted: NewSession,
        digest: &str,
        via: String,
    ) -> Result<(Token, u64), StoreError> {
        let expires_at = Micros::from(wanted.expires_at);
        let draft = match wanted.proven {
            Proven::Token(id) => self.draft_of_token(&id, expires_at).await?,
            Proven::Person {
                person,
                name,
                role,
                owners,
            } => Draft {
                role: for_people(role)?,
                name: names::clean(name.trim(), MAX_NAME),
                owners: canonical(&owners)?,
                parent: None,
                person: Some(person),
                expires_at,
            },
        };
        if draft.expires_at <= self.now() {
            return Err(StoreError::invalid("expires_at", "it lies in the past"));
        }
        let displaced = self.make_room(&draft).await?;
        let id = self.insert_session(&draft, digest).await?;
        let session = self.token(&id).await?;
        let actor = Actor {
            subject: session.name.clone(),
            token_id: session.parent.clone(),
            via,
        };
        let mut detail = said(&session);
        detail["displaced"] = displaced.into();
        self.audit_token("session.created", &session, detail, &actor)
            .await?;
        Ok((session, displaced))
    }

    async fn draft_of_token(&mut self, id: &str, expires_at: Micros) -> Result<Draft, StoreError> {
        let parent = self.token(id).await?;
        if !parent.is_good(self.now().timestamp()) {
            return Err(missing(id));
        }
        if parent.kind == TokenKind::Session {
            return Err(StoreError::invalid("token", "a session makes no other session"));
        }
        let ends = parent.expires_at.map_or(expires_at, Micros::from);
        Ok(Draft {
            role: for_people(parent.role)?,
            name: parent.name,
            owners: parent.owners,
            parent: Some(parent.id),
            person: None,
            expires_at: expires_at.min(ends),
        })
    }

    /// Ends the oldest sessions of the same token or person, so that one more is not too many.
    async fn make_room(&mut self, draft: &Draft) -> Result<u64, StoreError> {
        let (sql, of) = match (&draft.parent, &draft.person) {
            (Some(parent), _) => (
                "UPDATE tokens SET revoked_at = $1 WHERE id IN (SELECT id FROM tokens WHERE parent = $2 AND \
                 revoked_at IS NULL AND expires_at > $3 ORDER BY id DESC LIMIT $4 OFFSET $5)",
                parent,
            ),
            (None, Some(person)) => (
                "UPDATE tokens SET revoked_at = $1 WHERE id IN (SELECT id FROM tokens WHERE person = $2 AND \
                 revoked_at IS NULL AND expires_at > $3 ORDER BY id DESC LIMIT $4 OFFSET $5)",
                person,
            ),
            (None, None) => return Ok(0),
        };
        let now = self.now().0;
        let ended = sqlx::query(sql)
            .bind(now)
            .bind(of)
            .bind(now)
            .bind(ENDED_AT_ONCE)
            .bind(MOST - 1)
            .execute(self.connection())
            .await?;
        Ok(ended.rows_affected())
    }

    async fn insert_session(&mut self, draft: &Draft, digest: &str) -> Result<String, StoreError> {
        let (id, now) = (new_id("ses"), self.now().0);
        let stored = sqlx::query(
            "INSERT INTO tokens (id, digest, role, name, owners, repos, networks, created_at, created_by, expires_at, \
             kind, parent, person) VALUES ($1, $2, $3, $4, $5, '[]', '[]', $6, $7, $8, 'session', $9, $10) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(&id)
        .bind(digest)
        .bind(draft.role.as_str())
        .bind(&draft.name)
        .bind(to_json(&draft.owners)?)
        .bind(now)
        .bind(&draft.name)
        .bind(draft.expires_at.0)
        .bind(draft.parent.as_deref())
        .bind(draft.person.as_deref())
        .execute(self.connection())
        .await?;
        if stored.rows_affected() == 0 {
            let reason = "a token with this text is there already".to_owned();
            return Err(StoreError::Conflict { reason });
        }
        Ok(id)
    }

    async fn end_session(&mut self, id: &str, actor: &Actor) -> Result<Token, StoreError> {
        let sql =
            "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND kind = 'session' AND revoked_at IS NULL";
        let now = self.now().0;
        let ended = sqlx::query(sql)
            .bind(now)
            .bind(id)
            .execute(self.connection())
            .await?;
        let row = sqlx::query(tokens!("WHERE id = $1 AND kind = 'session'"))
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        let session = read_token(&row.ok_or_else(|| no_session(id))?)?;
        if ended.rows_affected() > 0 {
            self.audit_token("session.ended", &session, said(&session), actor)
                .await?;
        }
        Ok(session)
    }

    /// Ends every living session that a token was shown for; answers how many.
    pub(super) async fn end_sessions_of(&mut self, parent: &str) -> Result<u64, StoreError> {
        let now = self.now().0;
        let sql =
            "UPDATE tokens SET revoked_at = $1 WHERE parent = $2 AND revoked_at IS NULL AND expires_at > $3";
        let ended = sqlx::query(sql)
            .bind(now)
            .bind(parent)
            .bind(now)
            .execute(self.connection())
            .await?;
        Ok(ended.rows_affected())
    }
}

/// What histories say of a session.
fn said(session: &Token) -> Value {
    let mut detail = told(session);
    detail["parent"] = session.parent.as_deref().into();
    detail["person"] = session.person.as_deref().into();
    detail
}

/// Machines do not log in.
fn for_people(role: Role) -> Result<Role, StoreError> {
    match role {
        Role::Admin | Role::Editor | Role::Viewer => Ok(role),
        Role::Gateway | Role::Provisioner | Role::Runner => {
            let reason = format!("sessions are for the roles admin, editor and viewer, not for {role}");
            Err(StoreError::invalid("role", reason))
        }
    }
}

fn canonical(owners: &[String]) -> Result<Vec<String>, StoreError> {
    let mut owners: Vec<String> = owners
        .iter()
        .map(|owner| names::owner(owner))
        .collect::<Result<_, _>>()?;
    owners.sort_unstable();
    owners.dedup();
    Ok(owners)
}

fn no_session(id: &str) -> StoreError {
    StoreError::not_found(format!("session {id:?}"))
}
