//! The list of the cases.

/// Makes a test of each case of [`mod@crate::contract`], for the [`crate::Side`] that is named, and for the version control
/// with this short name.
///
/// A case that a version control cannot pass is `case => hg "the reason"` below: its test is ignored, and `cargo test` shows
/// the reason.
#[macro_export]
macro_rules! contract {
    ($side:ty, $vcs:ident) => {
        $crate::contract_tests! { $side, $vcs,
            bases {
                named_base_is_used_when_it_is_known_or_can_be_pulled,
                diamond_becomes_one_line_of_commits,
                build_that_comes_again_keeps_its_base_even_on_another_machine,
                short_or_oddly_written_hash_of_a_known_commit_is_a_named_base,
                newest_named_base_that_contains_the_others_is_used,
            }
            crashes {
                clone_that_is_damaged_at_the_start_is_cloned_again,
                clone_that_is_found_damaged_by_a_build_is_cloned_again,
                two_processes_do_not_share_a_clone,
                worker_that_ends_before_a_push_has_pushed_nothing_and_the_next_one_finishes,
                worker_that_ends_within_a_push_leaves_no_process_and_the_next_one_finishes,
                worker_that_ends_after_a_push_leaves_no_process_and_the_next_one_answers,
                worker_that_ends_within_the_first_clone_leaves_no_process_and_the_next_one_clones,
            }
            destination {
                push_is_prepared_and_ended_once_and_the_own_destination_gets_nothing,
                build_that_is_not_pushed_ends_what_was_prepared,
                push_knows_whether_an_earlier_one_may_have_stored_the_head,
                patches_that_the_destination_refuses_fail_the_build,
                destination_that_does_not_admit_us_gets_no_second_push,
                backend_without_another_destination_pushes_to_the_own_one,
                clone_whose_destination_cannot_be_opened_is_prepared_again,
            }
            full_disk {
                builds_wait_while_a_stack_fills_the_disk_and_are_pushed_when_it_has_room,
                builds_wait_while_their_patches_fill_the_disk_and_are_pushed_when_it_has_room,
                builds_wait_while_a_pull_fills_the_disk_and_are_pushed_when_it_has_room,
                builds_wait_while_a_push_fills_the_disk_and_are_pushed_when_it_has_room
                    => git "the server says it, whose disk is not ours: the build is tried three times",
                builds_wait_while_the_first_clone_fills_the_disk_and_are_pushed_when_it_has_room,
                build_that_expires_on_a_full_disk_names_the_disk_and_not_the_patch,
            }
            gate {
                superseded_and_private_builds_are_not_pushed,
                outage_of_the_push_guard_defers_without_an_attempt,
                wait_of_more_than_a_minute_is_logged_once_with_its_reason,
                build_with_an_unclear_answer_holds_up_no_other_and_expires,
                superseded_build_ends_while_the_default_revision_is_missing,
                wait_is_logged_although_no_delivery_comes_in_its_first_minute,
                build_whose_push_has_begun_is_finished_although_a_newer_diff_came,
                build_whose_push_has_begun_is_finished_although_its_diff_has_expired,
                push_that_a_hook_refused_has_left_nothing_so_a_newer_diff_ends_the_build,
                build_whose_end_was_decided_meanwhile_is_neither_pushed_nor_reported,
                private_build_gets_the_private_outcome_also_when_it_would_have_ended_without_a_push,
                newer_diff_comes_before_what_is_wrong_with_a_patch_and_not_before_other_ends,
                build_that_fails_by_our_fault_and_is_private_by_now_leaves_no_dead_letter,
            }
            hostile {
                hostile_paths_are_refused_by_name,
                hostile_contents_are_refused,
            }
            inventory {
                clone_is_listed_with_its_state_its_size_its_tip_and_its_last_pull,
                every_kind_of_directory_has_its_state_and_what_is_not_ours_is_not_listed,
                clone_in_use_is_not_removed,
                clone_that_is_elsewhere_is_named_and_not_followed,
                without_a_worker_the_clones_are_made_pulled_and_cloned_again,
                missing_source_is_reported_and_the_old_clone_stays,
                worker_pulls_and_clones_again_when_it_is_asked,
                builds_go_on_while_a_repository_is_cloned_again_and_what_a_dead_worker_left_is_done_by_the_next,
                beyond_the_budget_what_nobody_needs_goes_and_no_further_slot_is_made,
                first_clone_is_made_whatever_the_budget_is,
            }
            limits {
                stack_that_makes_more_than_is_allowed_is_refused_and_as_much_is_pushed,
                builds_of_an_author_who_used_much_time_are_deferred_and_those_of_others_are_pushed,
            }
            patch_files {
                patch_files_are_removed_with_each_outcome,
                patches_are_for_the_worker_alone_and_gone_when_it_must_end,
                patches_are_gone_before_the_push,
                patches_of_a_worker_that_was_killed_are_gone_after_the_next_start,
                patches_that_were_left_are_listed_and_pruned,
            }
            patches {
                outage_between_load_and_push_parks_the_build,
                patches_are_not_loaded_again_while_the_tree_is_closed,
                patch_that_is_gone_is_reported_unless_its_revision_is_private,
            }
            pushes {
                build_that_comes_twice_makes_one_head,
                hook_that_refuses_is_tried_again_and_shown,
                fault_that_needs_an_operator_is_not_retried,
                push_that_landed_without_a_response_is_a_success,
                push_that_died_at_the_destination_does_not_stop_the_later_ones,
                destination_that_always_dies_is_our_fault,
                push_past_its_deadline_is_killed_with_its_children,
                each_repository_is_ready_on_its_own,
            }
            slots {
                as_many_builds_are_made_at_once_as_there_are_slots,
                slot_that_is_damaged_is_cloned_again_while_the_other_works,
            }
            ssh {
                build_is_pushed_and_words_of_hooks_are_received,
                key_that_is_not_accepted_is_for_operators,
                unknown_and_other_host_keys_are_for_operators,
                server_that_is_down_is_tried_again,
                server_that_says_nothing_is_given_up_at_the_deadline,
                sessions_that_are_cut_within_a_push_make_one_head_and_one_answer,
            }
            stacks {
                each_patch_becomes_a_commit_and_the_last_one_configures_ci,
                same_build_gives_the_same_hashes_elsewhere,
                patch_that_does_not_apply_names_patch_file_hunk_and_base,
                clone_that_was_never_ready_is_our_fault_and_not_the_diffs_age,
                ineligible_builds_are_skipped,
                no_field_of_a_build_is_taken_for_an_option_or_breaks_a_commit,
                stack_that_is_too_large_is_refused,
                patch_of_many_lines_and_odd_bytes_arrives_whole,
                abandoned_parent_of_a_stack_that_cannot_be_built_is_named,
            }
            substitute_bases {
                default_revision_is_used_when_the_base_is_unknown_or_garbage,
                latest_revision_is_used_when_it_is_configured,
                recorded_base_that_the_source_lost_is_replaced_by_the_one_that_is_used,
                unknown_base_leads_to_what_was_there_when_the_diff_was_made_and_then_to_the_newest,
                default_revision_is_what_the_source_calls_so,
            }
            trees {
                builds_for_a_closed_tree_wait_without_losing_attempts_and_go_one_by_one_when_it_opens,
                closed_tree_is_not_logged_as_open_when_the_service_goes_down,
                tree_that_wants_approval_is_as_good_as_closed,
                patch_that_does_not_apply_is_reported_while_the_tree_is_closed,
                build_that_expires_in_front_of_a_closed_tree_says_so,
                tree_that_nobody_knows_about_counts_as_open,
                push_that_a_hook_refuses_waits_when_the_tree_was_closed_meanwhile,
            }
            try_config {
                try_syntax_goes_into_the_message,
                config_that_is_there_already_is_replaced_whatever_it_is,
                configured_file_has_the_content_of_its_template,
                last_patch_is_the_head_where_ci_needs_no_commit,
            }
            upper_bases {
                it_is_pulled_when_the_stack_does_not_apply_on_the_base_of_the_lower_patch,
                patch_is_at_fault_when_the_source_does_not_have_it_either,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($side:ty, $vcs:ident, $($module:ident {
        $($case:ident $(=> $skipped:ident $reason:literal)?,)*
    })*) => {
        $(mod $module {
            $($crate::contract_test! { $side, $vcs, $module, $case $(, $skipped $reason)? })*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_test {
    ($side:ty, hg, $module:ident, $case:ident, hg $reason:literal) => {
        $crate::contract_test! { $side, $module, $case, #[ignore = $reason] }
    };
    ($side:ty, git, $module:ident, $case:ident, git $reason:literal) => {
        $crate::contract_test! { $side, $module, $case, #[ignore = $reason] }
    };
    ($side:ty, $vcs:ident, $module:ident, $case:ident $(, $other:ident $reason:literal)?) => {
        $crate::contract_test! { $side, $module, $case, }
    };
    ($side:ty, $module:ident, $case:ident, $(#[$ignored:meta])?) => {
        #[tokio::test]
        $(#[$ignored])?
        async fn $case() {
            $crate::contract::$module::$case::<$side>().await;
        }
    };
}

/// A case that is not in the list would never run.
#[test]
fn each_case_is_in_the_list() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/contract");
    let list = include_str!("cases.rs");
    let mut found = 0;
    for file in std::fs::read_dir(sources).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let module = format!("            {} {{\n", name.trim_end_matches(".rs"));
        let listed = list.split_once(&module).map_or("", |(_, rest)| rest);
        let listed = listed
            .split_once("            }\n")
            .map_or("", |(part, _)| part);
        let source = std::fs::read_to_string(file.path()).unwrap();
        for case in source.split("\npub async fn ").skip(1) {
            let case = case
                .split(|c: char| c != '_' && !c.is_alphanumeric())
                .next();
            let case = case.unwrap();
            let is_listed = listed.lines().any(|line| {
                let line = line.trim_start();
                line.split([',', ' ']).next() == Some(case)
            });
            assert!(is_listed, "{name}: {case}");
            found += 1;
        }
    }
    assert!(found > 0);
}
