//! The store's conformance suite: every test runs on SQLite and on PostgreSQL, and must not tell them apart.
//!
//! Owns the list of tests and, in [`bench`], what a test stands on: a store of its own. A PostgreSQL that can't be
//! started is a failure, never a skip. Tests are `pub async fn name(bench: Bench)` in a file a topic; [`suite!`]
//! names each once and makes `sqlite::topic::name` and `postgres::topic::name` of it (one that is not named is dead
//! code, which the lints refuse).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod database;

/// Makes the tests of both databases out of one list.
macro_rules! suite {
    ($($topic:ident { $($name:ident)* })*) => {
        mod sqlite {
            $(mod $topic { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$topic::$name(crate::bench::Bench::sqlite()).await;
                }
            )* })*
        }
        mod postgres {
            $(mod $topic { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$topic::$name(crate::bench::Bench::postgres().await).await;
                }
            )* })*
        }
    };
}

suite! {
    database {
        a_change_is_answered_after_its_commit_and_numbered
        many_writers_are_committed_together_and_one_that_fails_harms_no_other
    }
}
