//! The rules that derive a changeset's review system from the changeset alone.
//!
//! All of them read only the summary, the first line of the description, and apply in the order of the predecessor.
//! [`Rules::Classic`] is exactly the predecessor's set, so that its figures stay comparable. [`Rules::Current`] also
//! recognizes back-outs as Git and its users write them.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{
    bugs::bug_numbers,
    pattern::{matches, pattern, word_after, word_before},
};

/// The review system of a changeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewSystem {
    /// Reviewed on Phabricator.
    Phabricator,
    /// Reviewed as a patch on Bugzilla.
    Bmo,
    /// Needs no review: a back-out, an uplift, or a change that was reviewed at its origin.
    ReviewUnneeded,
    /// Has nothing to review: a merge, or a change by a program.
    NotApplicable,
    /// Is marked `no bug`, or its bug is not public.
    NoBug,
    /// Cannot be determined.
    Unknown,
}

/// The set of back-outs that [`classify`] recognizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// The classic forms, `Revert "Bug 5 - …"`, and the other forms in use since the repositories moved to Git.
    #[default]
    Current,
    /// Only the predecessor's forms.
    Classic,
}

/// The result of [`classify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    /// The changeset determines its review system.
    System(ReviewSystem),
    /// The bug of this number determines it.
    Bug(u64),
}

/// The author of commits synchronized from web-platform-tests, where they were reviewed.
const WPT_SYNC: &str = "moz-wptsync-bot <wptsync@mozilla.com>";
/// The marker of a changeset that a program made.
const IGNORE: &str = "# ignore-this-changeset";

static CLASSIC_BACKOUT: LazyLock<Option<Regex>> = pattern!("(?i)^back(ed|ing|) out ");
/// `Backed out …`, `Backout …`, and `Revert` followed by its object: a quoted summary, a bug, a revision, or changesets. A
/// summary that continues `Revert` as prose (`Revert to the old layout`) may be any change.
static BACKOUT: LazyLock<Option<Regex>> = pattern!(concat!(
    r"(?i)^(back(ed|ing|s)?[\s-]?out\b",
    r#"|revert(ed|ing|s)?\s+(["'“”‘’«]|bugs?\b|D[0-9]+\b|([0-9]+\s+)?(changesets?|commits?|revisions?)\b|[0-9a-f]{7,40}\b))"#,
));
static NO_BUG: LazyLock<Option<Regex>> = pattern!("(?i)no bug");
static APPROVAL: LazyLock<Option<Regex>> = pattern!("(?i)a=");

/// Applies the first matching rule to a changeset's description, its author (`Name <address>`) and its number of parents.
pub fn classify(rules: Rules, description: &str, author: &str, parents: usize) -> Classification {
    let summary = summary(description);
    let backout = match rules {
        Rules::Current => &BACKOUT,
        Rules::Classic => &CLASSIC_BACKOUT,
    };
    if matches(backout, summary) {
        Classification::System(ReviewSystem::ReviewUnneeded)
    } else if summary.contains(IGNORE) || parents > 1 {
        Classification::System(ReviewSystem::NotApplicable)
    } else if has_no_bug_marker(summary) {
        Classification::System(ReviewSystem::NoBug)
    } else if is_approved(summary) || author == WPT_SYNC {
        Classification::System(ReviewSystem::ReviewUnneeded)
    } else if let Some(&bug) = bug_numbers(summary).first() {
        Classification::Bug(bug)
    } else {
        Classification::System(ReviewSystem::Unknown)
    }
}

/// The first line of a description, up to any line end that Python's `splitlines` knows.
fn summary(description: &str) -> &str {
    let is_line_end =
        |c| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    description.split(is_line_end).next().unwrap_or_default()
}

/// `\bno bug\b`
fn has_no_bug_marker(summary: &str) -> bool {
    positions(&NO_BUG, summary)
        .any(|(start, end)| !word_before(summary, start) && !word_after(summary, end))
}

/// `\ba=\w+\b`: the approval of an uplift, or of landing in a closed tree. The predecessor also matches
/// `\[wpt PR [0-9]+\].* a=testonly`, which contains such a flag.
fn is_approved(summary: &str) -> bool {
    positions(&APPROVAL, summary)
        .any(|(start, end)| !word_before(summary, start) && word_after(summary, end))
}

/// Start and end of each match.
fn positions<'a>(
    pattern: &'a Option<Regex>,
    text: &'a str,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    pattern
        .iter()
        .flat_map(|regex| regex.find_iter(text))
        .map(|found| (found.start(), found.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Dev <d@example.com>";

    fn current(description: &str) -> Classification {
        classify(Rules::Current, description, DEV, 1)
    }

    fn classic(description: &str) -> Classification {
        classify(Rules::Classic, description, DEV, 1)
    }

    #[test]
    fn rule_1_backout_needs_no_review() {
        let unneeded = Classification::System(ReviewSystem::ReviewUnneeded);
        for summary in [
            "Backed out changeset abc (bug 5)",
            "backing out bug 5",
            "BACK OUT bug 5",
            "back out  bug 5",
        ] {
            assert_eq!(
                (current(summary), classic(summary)),
                (unneeded, unneeded),
                "{summary}"
            );
        }
        for summary in [
            "Bug 5 - back out x",
            "backed  out bug 5",
            " Backed out bug 5",
            "Backouts of bug 5",
        ] {
            assert_eq!(
                (current(summary), classic(summary)),
                (Classification::Bug(5), Classification::Bug(5)),
                "{summary}"
            );
        }
        for rules in [Rules::Current, Rules::Classic] {
            assert_eq!(classify(rules, "Backed out bug 5", DEV, 2), unneeded);
        }
    }

    #[test]
    fn rule_1_git_backout_needs_no_review_with_current_rules() {
        for summary in [
            "Revert \"Bug 5 - x r=a\" for causing build bustages",
            "Revert \"x\" (Bug 5)",
            "Revert \"Revert \"Bug 5 - x\"\"",
            "revert 'x' (bug 5)",
            "Revert “Bug 5 - x”",
            "Revert Bug 5 - x",
            "Reverting bug 5",
            "Reverts bug 5 for lint failures",
            "Revert D123456 (bug 5)",
            "Revert changeset 0123456789ab (bug 5)",
            "Revert 2 commits (bug 5)",
            "Revert abcdef0 (bug 5)",
            "backout bug 5",
            "Back-out bug 5",
            "Backs out bug 5",
            "Backed out\tbug 5",
            "Backed out: bug 5",
        ] {
            assert_eq!(
                current(summary),
                Classification::System(ReviewSystem::ReviewUnneeded),
                "{summary}"
            );
            assert_eq!(classic(summary), Classification::Bug(5), "{summary}");
        }
    }

    #[test]
    fn rule_1_revert_as_plain_word_is_no_backout() {
        for summary in [
            "Revert to the old layout, bug 5",
            "Revert the change of bug 5",
            "Reverted order of bug 5",
            "Revertible \"x\", bug 5",
            "Bug 5 - Revert \"x\"",
            "Revert deed, bug 5",
            "Revert D-Bus changes, bug 5",
        ] {
            assert_eq!(
                (current(summary), classic(summary)),
                (Classification::Bug(5), Classification::Bug(5)),
                "{summary}"
            );
        }
    }

    #[test]
    fn rule_2_automated_change_is_not_reviewed() {
        assert_eq!(
            current("Bug 5 - reformat # ignore-this-changeset"),
            Classification::System(ReviewSystem::NotApplicable)
        );
        assert_eq!(
            current("Bug 5 - reformat #ignore-this-changeset"),
            Classification::Bug(5)
        );
        assert_eq!(
            current("Bug 5 - reformat\n\n# ignore-this-changeset"),
            Classification::Bug(5),
            "only the summary counts"
        );
    }

    #[test]
    fn rule_2_merge_is_not_reviewed() {
        for parents in [2, 3] {
            for description in [
                "",
                "Merge autoland to central. a=merge",
                "No bug - merge",
                "Bug 5",
            ] {
                let classification = classify(Rules::Current, description, DEV, parents);
                assert_eq!(
                    classification,
                    Classification::System(ReviewSystem::NotApplicable),
                    "{description}"
                );
            }
        }
    }

    #[test]
    fn rule_3_no_bug_marker_means_no_bug() {
        for summary in [
            "No bug - fix r=me",
            "fix, no bug",
            "NO BUG, a=me bug 5",
            "(no bug)",
            "no bug\u{301}",
        ] {
            assert_eq!(
                current(summary),
                Classification::System(ReviewSystem::NoBug),
                "{summary}"
            );
        }
        for summary in [
            "no  bug 5",
            "casino bug 5",
            "no bugs, bug 5",
            "nobug, bug 5",
            "no_bug 5",
            "no bug① bug 5",
        ] {
            assert_eq!(current(summary), Classification::Bug(5), "{summary}");
        }
    }

    #[test]
    fn rule_4_approved_change_needs_no_review() {
        for summary in [
            "Bug 5 - x a=RyanVM",
            "Bug 5 - x r=a,a=b",
            "Bug 5 A=x",
            "a=ü",
            "Bug 5 a=①",
        ] {
            assert_eq!(
                current(summary),
                Classification::System(ReviewSystem::ReviewUnneeded),
                "{summary}"
            );
        }
        for summary in [
            "Bug 5 - x a=",
            "Bug 5 - x a= b",
            "Bug 5 - x ra=b",
            "Bug 5 - x _a=b",
            "Bug 5 - x a =b",
        ] {
            assert_eq!(current(summary), Classification::Bug(5), "{summary}");
        }
    }

    #[test]
    fn rule_4_web_platform_sync_needs_no_review() {
        for summary in [
            "Bug 5 [wpt PR 10812] - x, a=testonly",
            "[wpt PR 1] a=testonly",
            "Bug 5 [wpt PR 1] a=testonlyx",
        ] {
            assert_eq!(
                current(summary),
                Classification::System(ReviewSystem::ReviewUnneeded),
                "{summary}"
            );
        }
        for summary in ["Bug 5 [wpt PR 1] x", "Bug 5 [wpt PR 1] testonly"] {
            assert_eq!(current(summary), Classification::Bug(5), "{summary}");
        }
        assert_eq!(
            classify(Rules::Current, "Bug 5", WPT_SYNC, 1),
            Classification::System(ReviewSystem::ReviewUnneeded)
        );
        assert_eq!(
            classify(
                Rules::Current,
                "Bug 5",
                "moz-wptsync-bot <wptsync@example.com>",
                1
            ),
            Classification::Bug(5)
        );
    }

    #[test]
    fn rule_5_first_bug_decides_and_none_is_unknown() {
        assert_eq!(
            current("fix typo"),
            Classification::System(ReviewSystem::Unknown)
        );
        assert_eq!(
            current("fix typo\n\nBug 5"),
            Classification::System(ReviewSystem::Unknown),
            "only the summary counts"
        );
        assert_eq!(current("Bug 7 and bug 5"), Classification::Bug(7));
    }

    #[test]
    fn summary_of_empty_first_line_is_empty() {
        for description in [
            "",
            "\n",
            "\nBug 5 - x",
            "\r\nNo bug",
            "\u{2028}Backed out x",
        ] {
            assert_eq!(
                current(description),
                Classification::System(ReviewSystem::Unknown),
                "{description:?}"
            );
            assert_eq!(
                classify(Rules::Current, description, DEV, 3),
                Classification::System(ReviewSystem::NotApplicable)
            );
        }
        for end in [
            "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\u{85}", "\u{2028}",
            "\u{2029}",
        ] {
            assert_eq!(summary(&format!("a{end}b")), "a", "{end:?}");
        }
    }

    #[test]
    fn megabyte_summary_is_classified_by_its_end() {
        let long = "no bugs a= ".repeat(100_000);
        assert_eq!(
            current(&long),
            Classification::System(ReviewSystem::Unknown)
        );
        assert_eq!(current(&format!("{long} bug 5")), Classification::Bug(5));
        assert_eq!(
            current(&format!("{long} no bug")),
            Classification::System(ReviewSystem::NoBug)
        );
    }
}
