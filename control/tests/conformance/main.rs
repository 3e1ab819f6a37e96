//! The store's conformance suite: every test runs on SQLite and on PostgreSQL, and must not tell them apart.
//!
//! Owns the list of tests and, in [`bench`], what a test stands on: a store of its own. A PostgreSQL that can't be
//! started is a failure, never a skip. Tests are `pub(crate) async fn name(bench: Bench)` in a file a topic; [`suite!`]
//! names each once and makes `sqlite::topic::name` and `postgres::topic::name` of it (one that is not named is dead
//! code, which the lints refuse).
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod attachments;
mod audit;
mod away;
mod baselines;
mod bench;
mod block;
mod changes;
mod database;
mod detections;
mod event_upkeep;
mod events;
mod fixture;
mod idle;
mod ingest;
mod ingest_random;
mod jobs;
mod judged;
mod leases;
mod lists;
mod model;
mod policies;
mod put;
mod random;
mod reader;
mod recorded;
mod refused;
mod restart;
mod runs;
mod seen;
mod sessions;
mod sets;
mod sums;
mod suppressions;
mod tokens;
mod upkeep;
mod versions;
mod watched;

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
    versions {
        every_version_stays_as_it_was_written
        the_history_of_an_update_shows_what_changed
        a_rollback_is_a_new_version_with_the_old_text
        a_version_says_from_which_change_on_it_governs
    }
    away {
        who_is_known_less_replaces_nobody_however_new
        a_spent_proof_makes_no_second_job_though_nobody_could_be_asked
        a_proof_that_control_forgets_by_now_registers_nothing
        what_was_granted_began_where_its_gateway_stood
    }
    sets {
        a_set_is_kept_as_written_and_has_versions
        a_policy_can_use_only_sets_of_its_owner
        a_used_set_is_not_deleted_before_no_job_needs_it
        sets_are_listed_by_name_and_bad_names_are_refused
        a_set_that_is_to_be_new_is_not_written_over_another
    }
    lists {
        a_summary_says_what_the_whole_policy_says
        deleted_policies_are_listed_the_latest_first
        layers_are_counted_with_every_change
        what_was_shown_is_what_is_done_or_nothing_is
    }
    policies {
        a_policy_is_kept_as_written_with_its_parsed_form
        names_are_unique_per_owner_and_in_one_encoding
        one_of_many_that_want_a_name_gets_it
        bad_input_says_which_field_and_why_and_stores_nothing
        texts_go_in_and_out_unchanged_whatever_they_say
        a_megabyte_is_kept_and_a_byte_more_is_refused
        lists_are_paged_in_one_order_on_every_database
        policies_are_found_by_name_mode_attachment_and_id
        an_update_makes_a_version_and_a_lost_update_is_refused
        of_many_updates_of_one_version_exactly_one_wins
        a_deleted_policy_leaves_its_scopes_and_its_history
        a_strict_store_refuses_what_strangers_can_register
    }
    audit {
        entries_of_many_writers_are_one_chain_without_gaps
        the_log_is_read_from_either_end_in_pages_and_by_owner
        the_log_is_asked_by_who_what_to_what_and_when
        the_database_refuses_to_change_the_log
        tampering_below_the_database_breaks_the_chain
        an_entry_never_is_why_an_operation_fails
    }
    put {
        a_policy_is_written_whole_with_its_attachments
        a_held_scope_leaves_nothing_of_a_whole_write
    }
    attachments {
        a_policy_holds_many_scopes_and_leaves_them_in_one_step
        a_held_scope_is_refused_with_its_holder_and_nothing_is_attached
        replacing_displaces_and_both_histories_say_so
        what_can_not_be_attached_or_detached_is_refused
        of_many_that_want_a_scope_exactly_one_gets_it
        a_stricter_workflow_than_its_repository_is_warned_of
        handing_egress_to_a_wider_scope_is_warned_of
    }
    database {
        a_change_is_answered_after_its_commit_and_numbered
        many_writers_are_committed_together_and_one_that_fails_harms_no_other
        more_writers_than_the_line_holds_are_told_to_come_back
        tables_are_brought_up_to_date_once_by_whoever_comes_first
        a_migration_may_take_as_long_as_it_needs
        two_control_planes_see_each_others_changes_in_order
        what_was_acknowledged_is_there_after_an_end_without_a_goodbye
        a_url_says_what_it_is_and_hides_its_password
    }
    block {
        an_entry_is_canonical_and_there_once
        a_removed_entry_is_told_as_gone_and_can_come_again
        an_entry_ends_with_its_time
        only_the_deployments_own_entries_can_be_removed
        entries_are_searched_by_any_part_of_their_pattern
        a_layer_is_brought_up_to_date_by_what_differs
        a_long_layer_comes_in_bounded_pieces
        lists_have_their_bounds
        a_list_is_imported_whole_or_not_at_all
    }
    jobs {
        jobs_are_listed_newest_first_by_what_is_asked
        jobs_and_leases_are_cut_down_to_networks
        leases_are_listed_by_source
        a_search_folds_the_case_of_every_letter_and_goes_through_pages
        a_search_looks_through_so_many_jobs_a_page
    }
    seen {
        a_workflow_is_noted_with_each_of_its_jobs
        what_only_events_tell_of_is_noted_too
        what_is_known_is_not_noted_again
        a_workflow_is_forgotten_long_after_its_last_job
        jobs_are_found_by_what_is_known_of_them
        owners_and_baselines_are_counted_at_once
        questions_of_jobs_and_runs_use_an_index
    }
    idle {
        nobody_is_said_to_be_silent_when_there_are_too_many_to_look_at
    }
    runs {
        a_run_stands_where_its_newest_job_does
        a_run_is_found_by_any_of_its_jobs
        runs_of_many_jobs_are_counted_whole
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
    sessions {
        a_session_is_listed_apart_and_ends_with_its_token
        a_person_has_a_session_of_its_own
        what_is_not_good_any_more_makes_no_session
        one_session_too_many_ends_the_oldest
        of_a_login_and_the_end_of_its_token_at_once_none_is_left_over
        a_session_is_no_admin_and_is_forgotten_after_a_day
    }
    tokens {
        a_token_is_known_by_its_digest_and_its_text_is_nowhere
        limits_are_canonical_and_fit_the_role
        a_revoked_token_stays_listed_and_leaves_the_gateways
        tokens_are_listed_page_by_page
        last_use_is_noted_at_most_once_a_minute_and_never_goes_back
        a_claim_is_a_use_of_the_token_that_was_shown_for_it
        only_a_living_admin_without_limits_is_one
    }
    events {
        every_question_is_answered_from_either_end_in_pages_of_any_size
        a_question_that_makes_no_sense_is_refused_and_a_nasty_one_finds_nothing
        processes_are_joined_when_events_are_read
        what_gateways_dropped_is_told_by_the_day
        who_follows_two_control_planes_sees_every_event_once_and_in_order
    }
    changes {
        a_policy_has_the_versions_that_may_govern_somebody
        several_changes_of_one_thing_are_one
        pages_are_bounded_and_end_at_the_newest_change
        a_position_that_is_not_known_is_too_old
        a_feed_that_was_loaded_is_told_by_a_snapshot
        leases_are_told_to_their_own_group_only
        what_was_forgotten_is_told_as_gone
        a_snapshot_that_nobody_reads_ends
        slow_snapshots_wait_for_each_other_and_leave_room_for_others
        a_snapshot_is_of_one_moment_while_others_write
        a_second_control_plane_hears_of_changes
        a_mirror_takes_a_token_that_expires_and_gateways_look_at_the_time
    }
    ingest {
        each_event_is_stored_once_under_repeats_overlaps_and_gaps
        a_batch_in_any_order_within_is_one_in_order
        lanes_spools_and_gateways_are_numbered_apart
        what_is_stored_stays_stored_over_a_restart
        a_batch_that_fails_leaves_nothing_behind
        sums_by_day_add_up_whatever_is_kept_raw
        an_event_of_the_future_is_filed_soon_and_says_what_it_said
        what_a_lane_dropped_is_counted_once_on_the_day_it_says_so
        a_report_is_kept_once_a_thing_with_its_newest_word
        what_a_job_calls_its_processes_keeps_no_batch_from_being_stored
        an_event_with_every_text_at_its_longest_is_stored
        hostile_names_are_stored_escaped_and_found_again
        of_two_control_planes_events_are_seen_in_the_order_of_their_numbers
        a_batch_that_two_control_planes_get_at_once_is_stored_once
        a_writer_of_events_keeps_no_registration_waiting
    }
    sums {
        sums_say_what_was_ingested_whatever_came_twice
        what_is_too_old_to_be_kept_raw_is_summed_as_well
        what_strangers_try_is_bounded_and_all_of_it_counted
        what_is_undone_takes_no_room
        sums_are_forgotten_each_kind_in_its_time
        a_refusal_is_found_by_its_id_and_among_all_whoever_stored_it
        events_are_found_by_where_they_came_from_and_what_judged_them
    }
    judged {
        workflows_are_judged_by_days_of_their_own_and_by_what_an_older_program_summed
    }
    refused {
        what_an_older_program_stores_beside_this_one_is_found_too
        what_is_old_is_forgotten_though_a_refusal_can_not_be_read
        sums_of_nonsense_are_added_up
    }
    recorded {
        a_walk_back_meets_each_event_of_its_scopes_once
        sums_are_of_whole_days_the_newest_first_and_bounded
    }
    ingest_random {
        however_batches_come_each_event_is_stored_once
    }
    event_upkeep {
        what_is_old_is_forgotten_each_kind_in_its_time
        what_events_have_in_common_is_stored_once_a_day_and_goes_after_the_last_of_them
        a_spool_that_was_silent_for_long_is_forgotten_with_its_losses
        many_old_events_go_in_lots
        a_day_is_a_partition_of_its_own
        questions_by_job_repository_time_and_number_use_an_index
        a_commit_of_events_is_synced
    }
    random {
        a_follower_of_the_changes_holds_what_a_snapshot_says
    }
    upkeep {
        an_epoch_is_made_once
        single_values_are_kept
        gateways_are_remembered_as_they_were_last_seen
        since_when_gateways_are_behind_is_told_alike_of_few_and_of_many
        an_issuer_is_written_when_it_is_another
        only_what_nobody_needs_is_forgotten
        tokens_and_gateways_are_forgotten_long_after_their_end
        a_long_log_is_forgotten_in_lots
        a_backup_is_another_store_with_the_same_content
    }
    baselines {
        a_hundred_quiet_runs_make_every_scope_stable
        fourteen_quiet_days_make_it_stable_with_ten_runs
        what_is_new_unsettles_a_stable_one_for_fifty_runs
        attempts_jobs_and_repeats_are_one_run
        a_run_counts_once_in_each_scope_wherever_its_jobs_ran
        strangers_add_nothing_and_are_left_out
        noise_and_single_runs_are_left_out_and_said
        what_is_not_reached_is_no_endpoint
        repeats_are_counted_by_memory_on_every_control_plane
        what_was_undone_is_not_remembered
        what_nobody_reached_for_long_is_forgotten
        what_is_known_needs_no_look_at_the_tables
        a_baseline_is_shown_in_parts_with_its_calls_by_day
        baselines_are_listed_by_scope
    }
    detections {
        a_new_endpoint_of_a_stable_baseline_is_detected_once
        a_rule_of_one_scope_is_not_anothers
        only_what_is_expected_gets_into_a_baseline
        what_was_said_is_in_the_audit_log
        a_refusal_is_detected_once_a_job_and_counted
        a_flood_that_a_rule_covers_hides_no_new_endpoint
        counts_of_nonsense_stand_before_no_others
        a_job_has_a_hundred_detections_and_the_last_counts_on
        detections_are_listed_by_what_is_asked_and_paged
        hostile_names_are_kept_as_text
        forks_are_detected_and_unsettle_nothing
    }
    suppressions {
        a_rule_keeps_what_it_covers_quiet
        a_rule_with_a_process_covers_what_is_known_of_it
        rules_reach_every_control_plane_and_end_with_their_time
        a_rule_that_makes_no_sense_is_refused_with_its_field
    }
}
