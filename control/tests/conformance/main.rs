//! The store's conformance suite: every test runs on SQLite and on PostgreSQL, and must not tell them apart.
//!
//! Owns the list of tests and, in [`bench`], what a test stands on: a store of its own. A PostgreSQL that can't be
//! started is a failure, never a skip. Tests are `pub async fn name(bench: Bench)` in a file a topic; [`suite!`]
//! names each once and makes `sqlite::topic::name` and `postgres::topic::name` of it (one that is not named is dead
//! code, which the lints refuse).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod tokens;
mod leases;
mod jobs;
mod fixture;
mod block;
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
    block {
        an_entry_is_canonical_and_there_once
        a_removed_entry_is_told_as_gone_and_can_come_again
        an_entry_ends_with_its_time
        only_the_deployments_own_entries_can_be_removed
        entries_are_searched_by_any_part_of_their_pattern
        a_layer_is_brought_up_to_date_by_what_differs
        a_long_layer_comes_in_bounded_pieces
    }
    jobs {
        jobs_are_listed_newest_first_by_what_is_asked
        leases_are_listed_by_source
    }
    leases {
        a_claim_is_recorded_once_and_answered_the_same
        a_claim_that_makes_no_sense_is_refused_with_its_field
        a_proof_is_good_for_one_job
        a_token_that_is_not_good_registers_nothing
        a_source_is_held_in_its_group_until_replaced_ended_or_expired
        a_lease_whose_time_is_over_holds_nothing
        what_was_granted_while_control_was_away_stands_when_it_is_the_newer
        an_end_is_told_once_and_a_release_is_told_on
        leases_expire_in_lots_and_are_told_to_their_groups
        of_two_claims_of_one_source_at_once_one_wins
        of_two_uses_of_one_proof_at_once_one_wins
        the_end_of_one_and_the_claim_of_the_next_are_in_some_order
        what_was_answered_is_there_after_a_restart
    }
    tokens {
        a_token_is_known_by_its_digest_and_its_text_is_nowhere
        limits_are_canonical_and_fit_the_role
        a_revoked_token_stays_listed_and_leaves_the_gateways
        tokens_are_listed_page_by_page
        last_use_is_noted_at_most_once_a_minute_and_never_goes_back
        only_a_living_admin_without_limits_is_one
    }
}
