//! Which review system the author of a changeset used: the rules that need nothing but the changeset.
//!
//! All of them look at the summary, the first line of the description; what stands below it says nothing. They are those
//! of Mozilla's commit telemetry before this one. [`Rules::Classic`] applies exactly those, so that figures of then and now
//! can be compared; [`Rules::Current`] also knows how Git and its users write back-outs.

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
    /// Needs no review: it was backed out, uplifted, or comes from where it was reviewed.
    ReviewUnneeded,
    /// Nothing to review: a merge, or a change by a program.
    NotApplicable,
    /// It says that it has no bug, or nobody may see its bug.
    NoBug,
    /// Nothing tells.
    Unknown,
}

/// Which back-outs the rules recognize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// `Revert "Bug 5 - …"` and the other forms that are in use since the repositories moved to Git, too.
    #[default]
    Current,
    /// Only the forms that the original recognized: its figures can be compared with these.
    Classic,
}

/// What a changeset says of its review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It tells the review system.
    Clear(ReviewSystem),
    /// The bug of this number tells.
    Bug(u64),
}

/// The author of what is synchronized from web-platform-tests, where it was reviewed.
const WPT_SYNC: &str = "moz-wptsync-bot <wptsync@mozilla.com>";
/// By which a changeset says that a program made it.
const IGNORE: &str = "# ignore-this-changeset";

static CLASSIC_BACKOUT: LazyLock<Option<Regex>> = pattern!("(?i)^back(ed|ing|) out ");
/// `Backed out …`, `Backout …`; and `Revert` with what is reverted: a quoted summary, a bug, a revision, or changesets. A
/// summary that begins with `Revert` and goes on in prose (`Revert to the old layout`) may be any change.
static BACKOUT: LazyLock<Option<Regex>> = pattern!(concat!(
    r"(?i)^(back(ed|ing|s)?[\s-]?out\b",
    r#"|revert(ed|ing|s)?\s+(["'“”‘’«]|bugs?\b|D[0-9]+\b|([0-9]+\s+)?(changesets?|commits?|revisions?)\b|[0-9a-f]{7,40}\b))"#,
));
static NO_BUG: LazyLock<Option<Regex>> = pattern!("(?i)no bug");
static APPROVAL: LazyLock<Option<Regex>> = pattern!("(?i)a=");

impl Evidence {
    /// Applies the rules, the first that fits, to a changeset's description, its author (`Name <address>`), and the number of
    /// its parents.
    pub fn of(rules: Rules, description: &str, author: &str, parents: usize) -> Self {
        let summary = summary(description);
        let backout = match rules {
            Rules::Current => &BACKOUT,
            Rules::Classic => &CLASSIC_BACKOUT,
        };
        if matches(backout, summary) {
            Self::Clear(ReviewSystem::ReviewUnneeded)
        } else if summary.contains(IGNORE) || parents > 1 {
            Self::Clear(ReviewSystem::NotApplicable)
        } else if says_no_bug(summary) {
            Self::Clear(ReviewSystem::NoBug)
        } else if is_approved(summary) || author == WPT_SYNC {
            Self::Clear(ReviewSystem::ReviewUnneeded)
        } else if let Some(&bug) = bug_numbers(summary).first() {
            Self::Bug(bug)
        } else {
            Self::Clear(ReviewSystem::Unknown)
        }
    }
}

/// The first line of a description, which ends at whatever Python takes for a line's end. Empty, if that is where it begins.
fn summary(description: &str) -> &str {
    let ends = |c| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    description.split(ends).next().unwrap_or_default()
}

/// `\bno bug\b`
fn says_no_bug(summary: &str) -> bool {
    let alone = |(start, end)| !word_before(summary, start) && !word_after(summary, end);
    found(&NO_BUG, summary).any(alone)
}

/// `\ba=\w+\b`: the flag of those who approve what is uplifted, or landed in a closed tree. The original also looks for
/// `\[wpt PR [0-9]+\].* a=testonly`, which has the flag in it.
fn is_approved(summary: &str) -> bool {
    let flag = |(start, end)| !word_before(summary, start) && word_after(summary, end);
    found(&APPROVAL, summary).any(flag)
}

fn found<'a>(
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

    fn of(description: &str) -> Evidence {
        Evidence::of(Rules::Current, description, DEV, 1)
    }

    fn classic(description: &str) -> Evidence {
        Evidence::of(Rules::Classic, description, DEV, 1)
    }

    #[test]
    fn rule_1_backout_needs_no_review() {
        let unneeded = Evidence::Clear(ReviewSystem::ReviewUnneeded);
        for summary in [
            "Backed out changeset abc (bug 5)",
            "backing out bug 5",
            "BACK OUT bug 5",
            "back out  bug 5",
        ] {
            assert_eq!(
                (of(summary), classic(summary)),
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
                (of(summary), classic(summary)),
                (Evidence::Bug(5), Evidence::Bug(5)),
                "{summary}"
            );
        }
        for rules in [Rules::Current, Rules::Classic] {
            assert_eq!(Evidence::of(rules, "Backed out bug 5", DEV, 2), unneeded);
        }
    }

    #[test]
    fn rule_1_git_backout_needs_no_review_unless_classic() {
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
                of(summary),
                Evidence::Clear(ReviewSystem::ReviewUnneeded),
                "{summary}"
            );
            assert_eq!(classic(summary), Evidence::Bug(5), "{summary}");
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
                (of(summary), classic(summary)),
                (Evidence::Bug(5), Evidence::Bug(5)),
                "{summary}"
            );
        }
    }

    #[test]
    fn rule_2_automated_change_is_not_reviewed() {
        assert_eq!(
            of("Bug 5 - reformat # ignore-this-changeset"),
            Evidence::Clear(ReviewSystem::NotApplicable)
        );
        assert_eq!(
            of("Bug 5 - reformat #ignore-this-changeset"),
            Evidence::Bug(5)
        );
        assert_eq!(
            of("Bug 5 - reformat\n\n# ignore-this-changeset"),
            Evidence::Bug(5),
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
                let evidence = Evidence::of(Rules::Current, description, DEV, parents);
                assert_eq!(
                    evidence,
                    Evidence::Clear(ReviewSystem::NotApplicable),
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
                of(summary),
                Evidence::Clear(ReviewSystem::NoBug),
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
            assert_eq!(of(summary), Evidence::Bug(5), "{summary}");
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
                of(summary),
                Evidence::Clear(ReviewSystem::ReviewUnneeded),
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
            assert_eq!(of(summary), Evidence::Bug(5), "{summary}");
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
                of(summary),
                Evidence::Clear(ReviewSystem::ReviewUnneeded),
                "{summary}"
            );
        }
        for summary in ["Bug 5 [wpt PR 1] x", "Bug 5 [wpt PR 1] testonly"] {
            assert_eq!(of(summary), Evidence::Bug(5), "{summary}");
        }
        assert_eq!(
            Evidence::of(Rules::Current, "Bug 5", WPT_SYNC, 1),
            Evidence::Clear(ReviewSystem::ReviewUnneeded)
        );
        assert_eq!(
            Evidence::of(
                Rules::Current,
                "Bug 5",
                "moz-wptsync-bot <wptsync@example.com>",
                1
            ),
            Evidence::Bug(5)
        );
    }

    #[test]
    fn rule_5_first_bug_decides_and_none_is_unknown() {
        assert_eq!(of("fix typo"), Evidence::Clear(ReviewSystem::Unknown));
        assert_eq!(
            of("fix typo\n\nBug 5"),
            Evidence::Clear(ReviewSystem::Unknown),
            "only the summary counts"
        );
        assert_eq!(of("Bug 7 and bug 5"), Evidence::Bug(7));
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
                of(description),
                Evidence::Clear(ReviewSystem::Unknown),
                "{description:?}"
            );
            assert_eq!(
                Evidence::of(Rules::Current, description, DEV, 3),
                Evidence::Clear(ReviewSystem::NotApplicable)
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
    fn megabyte_line_is_read_to_its_end() {
        let long = "no bugs a= ".repeat(100_000);
        assert_eq!(of(&long), Evidence::Clear(ReviewSystem::Unknown));
        assert_eq!(of(&format!("{long} bug 5")), Evidence::Bug(5));
        assert_eq!(
            of(&format!("{long} no bug")),
            Evidence::Clear(ReviewSystem::NoBug)
        );
    }
}
