//! Tokens as the tests of the API and of the web UI want them.

use tidegate_control::model::{Actor, NewToken, Role};
use tidegate_control::store::Store;
use tidegate_control_wire::secret::Secret;

/// A token as it is asked for, without limits.
pub(crate) fn wanted(role: Role, name: &str) -> NewToken {
    NewToken {
        role,
        name: name.into(),
        owners: if role == Role::Runner {
            vec!["acme".into()]
        } else {
            Vec::new()
        },
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    }
}

/// A token for some owners.
pub(crate) fn of_owners(role: Role, name: &str, owners: &[&str]) -> NewToken {
    NewToken {
        owners: owners.iter().map(|owner| (*owner).to_owned()).collect(),
        ..wanted(role, name)
    }
}

/// Makes a token; gives back its text.
pub(crate) async fn token(store: &Store, wanted: &NewToken) -> String {
    let secret = Secret::new(wanted.role);
    let actor = Actor {
        subject: "test".into(),
        token_id: None,
        via: "system".into(),
    };
    store
        .create_token(wanted, &secret.digest(), &actor)
        .await
        .unwrap();
    secret.expose().to_owned()
}
