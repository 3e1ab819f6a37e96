//! What a test stands on: a database of its own, empty, and stores opened on it.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_control::store::Store;
use tidegate_lab::PostgresServer;

/// An empty database of one test.
pub(crate) struct Bench {
    url: String,
    _keep: Keep,
}

/// What the database needs while it is used.
#[expect(dead_code, reason = "held, never looked at")]
enum Keep {
    Directory(TempDir),
    Server(Arc<PostgresServer>),
}

impl Bench {
    /// On a file of its own.
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite://{}", directory.path().join("control.db").display()),
            _keep: Keep::Directory(directory),
        }
    }

    /// On a database of its own on the server that the tests of this process share.
    pub(crate) async fn postgres() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let server = PostgresServer::shared()?;
            server.create_database().map(|url| (server, url))
        });
        let (server, url) = started.await.unwrap().expect("PostgreSQL starts");
        Self {
            url,
            _keep: Keep::Server(server),
        }
    }

    /// For opening it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Opens it; several times for several control planes.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }
}

/// Asks again and again until the answer is `Ok`; after ten seconds tells what it was last.
pub(crate) async fn within<T, S>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, S>) -> T
where
    S: std::fmt::Debug,
{
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if tokio::time::Instant::now() > end => panic!("waited for {what}; last: {last:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
