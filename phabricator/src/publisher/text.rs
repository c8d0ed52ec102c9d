//! The texts for authors, as units of a build target.

use std::borrow::Cow;

use super::remarkup::{code_block, inline_code, paragraphs, sentence};
use crate::api::{Unit, UnitResult};
use build::{BaseChoice, BaseReason, InfraFailure, PatchFailure, Phid, Pushed, VersionControl};

const NAMESPACE: &str = "code-review";
/// The name of units that are not about patches.
const GENERAL: &str = "general";

/// The duration, in seconds, from which on the text holds it. Phorge shows a unit's duration in milliseconds, in a narrow
/// column beside the unit's name; a longer one would run over the name.
const LONG: f64 = 100.0;

/// The most revisions that are named in a sentence.
const MAX_NAMED: usize = 10;

/// The patches of a push and their base: a `pass`, or `unsound` when the base is not the one that the stack names.
pub(super) fn applied(pushed: &Pushed) -> Unit {
    let Pushed {
        vcs, base, landed, ..
    } = pushed;
    let as_named = match base.reason {
        BaseReason::Mapped | BaseReason::NewestNamed | BaseReason::Staged => true,
        BaseReason::Named => base.instead_of.is_none(),
        _ => false,
    };
    let which = names(&pushed.revisions);
    let applied = if pushed.patches == 1 {
        format!("1 patch ({which}) was")
    } else {
        format!("{} patches ({which}) were", pushed.patches)
    };
    let left_out = match landed.as_slice() {
        [] => String::new(),
        [one] => format!("D{one} has landed and was left out."),
        all => format!("{} have landed and were left out.", names(all)),
    };
    let abandoned = match pushed.abandoned.as_slice() {
        [] => String::new(),
        [one] => {
            format!("D{one} was abandoned: if its change is not wanted, remove it from the stack.")
        }
        all => format!(
            "{} were abandoned: if their changes are not wanted, remove them from the stack.",
            names(all)
        ),
    };
    let place = pushed
        .reference
        .as_ref()
        .map_or_else(String::new, |reference| {
            format!(
                "The result is {} {} at {}.",
                vcs.commit(),
                inline_code(&pushed.revision),
                inline_code(reference)
            )
        });
    let job = pushed
        .job_url
        .as_ref()
        .map_or_else(String::new, |job| format!("Lando pushed the result: {job}"));
    let parts = [
        format!(
            "{applied} applied on {} {}. {}",
            vcs.commit(),
            inline_code(&base.used),
            why(base, *vcs)
        ),
        place,
        job,
        left_out,
        abandoned,
        if as_named {
            String::new()
        } else {
            "Results may differ from what you see on your machine.".to_owned()
        },
    ];
    let result = if as_named {
        UnitResult::Pass
    } else {
        UnitResult::Unsound
    };
    let parts: Vec<String> = parts.iter().map(|part| sentence(part)).collect();
    unit(patch_unit(*vcs).into(), result, None, paragraphs(&parts))
}

/// A patch that cannot be built: a `fail`.
pub(super) fn patch_failed(failure: &PatchFailure) -> Unit {
    let (details, advice) = (code_block(&failure.details), sentence(&failure.advice));
    let mut parts = vec![sentence(&failure.summary)];
    match &failure.base {
        // The details may be long, so the remedy stands above them.
        Some(base) => {
            let tried_on = format!(
                "It was tried on {} {}. {}",
                failure.vcs.commit(),
                inline_code(&base.used),
                why(base, failure.vcs)
            );
            let commands = code_block(&failure.commands);
            // Phorge joins two code blocks that only empty lines separate, and then shows the options of the second.
            let between = if commands.is_empty() || details.is_empty() {
                String::new()
            } else {
                "In detail:".to_owned()
            };
            parts.extend([sentence(&tried_on), advice, commands, between, details]);
        }
        None => parts.extend([details, advice, code_block(&failure.commands)]),
    }
    parts.push(took(failure.seconds));
    unit(
        patch_unit(failure.vcs).into(),
        UnitResult::Fail,
        Some(failure.seconds),
        paragraphs(&parts),
    )
}

/// A failure of ours: `broken`. The log and the metrics have it, and notify nobody: the author can tell the operators.
pub(super) fn broken(target: &Phid, failure: &InfraFailure) -> Unit {
    let operators = format!(
        "the operators of this service, with the id of this build: {}.",
        inline_code(target.as_str())
    );
    // A failure without retries would repeat until an operator acts.
    let remedy = if failure.attempts == 1 {
        format!("Tell {operators} Restart the build when they have mended this.")
    } else {
        format!("Restart the build later. If that fails too, tell {operators}")
    };
    let parts = [
        sentence(&format!(
            "This is not your patch's fault. {} {}",
            failure.summary,
            tried(failure)
        )),
        code_block(&failure.details),
        format!(
            "This is logged and counted as a failure of this service, and your patch need not change. {remedy}"
        ),
    ];
    unit(
        GENERAL.into(),
        UnitResult::Broken,
        Some(failure.seconds),
        paragraphs(&parts),
    )
}

/// Nothing to build: a `skip`.
pub(super) fn skipped(reason: &str) -> Unit {
    unit(GENERAL.into(), UnitResult::Skip, None, sentence(reason))
}

/// A private revision: a `skip` that names nothing.
pub(super) fn private() -> Unit {
    unit(
        GENERAL.into(),
        UnitResult::Skip,
        None,
        "This is a private revision, it is not built.".to_owned(),
    )
}

pub(super) fn unit(
    name: Cow<'static, str>,
    result: UnitResult,
    seconds: Option<f64>,
    details: String,
) -> Unit {
    // JSON writes a number that is not finite as null, and the server refuses that.
    let duration = seconds
        .filter(|seconds| (0.0..LONG).contains(seconds))
        .map(|seconds| (seconds * 1e3).round() / 1e3);
    Unit {
        namespace: NAMESPACE,
        name,
        result,
        format: "remarkup",
        duration,
        details,
    }
}

/// The name of units about patches.
fn patch_unit(vcs: VersionControl) -> &'static str {
    match vcs {
        VersionControl::Mercurial => "mercurial",
        VersionControl::Git => "git",
    }
}

/// The sentences that explain a base.
fn why(base: &BaseChoice, vcs: VersionControl) -> String {
    let tried = base.tried.as_deref().map(inline_code);
    let tried = tried.map_or_else(String::new, |tried| {
        format!(
            " Before that it was tried on {tried}, the newest {} from before the diff, and did not apply.",
            vcs.commit()
        )
    });
    reason(base, vcs) + &tried
}

fn reason(base: &BaseChoice, vcs: VersionControl) -> String {
    let (commit, perhaps) = match vcs {
        VersionControl::Mercurial => ("changeset", "it may be a git commit, or not be pushed yet"),
        VersionControl::Git => ("commit", "it may not be pushed yet"),
    };
    let named = base.instead_of.as_deref().map(inline_code);
    match (base.reason, named) {
        (BaseReason::Named, _) => "The stack names it as its base.".to_owned(),
        (BaseReason::Mapped, Some(named)) => format!(
            "The stack names it as its base, by the hash {named} that it has in another version control."
        ),
        (BaseReason::Mapped, None) => "The stack names it as its base.".to_owned(),
        (BaseReason::Unknown, Some(named)) => format!(
            "The stack names {named} as its base, but the repository has no such {commit} ({perhaps}), so the newest one was used instead."
        ),
        (BaseReason::NotAHash, Some(named)) => format!(
            "The stack names {named} as its base, which is not the hash of a {commit}, so the newest one was \
             used instead."
        ),
        (BaseReason::Unnamed, _) => {
            format!("The stack does not name its base, so the newest {commit} was used.")
        }
        (BaseReason::NewestNamed, Some(named)) => format!(
            "A patch of the stack names it as its base; it is the newest base that the repository has of those that the \
             stack names (the lowest patch names {named})."
        ),
        (BaseReason::NewestNamed, None) => "A patch of the stack names it as its base.".to_owned(),
        (BaseReason::ByDate, Some(named)) => format!(
            "The stack names {named} as its base, which is no {commit} of the repository ({perhaps}), so the newest {commit} from before the diff was used instead."
        ),
        (BaseReason::ByDate, None) => {
            format!(
                "The stack does not name its base, so the newest {commit} from before the diff was used."
            )
        }
        (BaseReason::Latest, Some(named)) => format!(
            "Patches for this repository are always applied on its newest {commit}; the stack names {named} as its \
             base."
        ),
        (BaseReason::Latest, None) => format!(
            "Patches for this repository are always applied on its newest {commit}; the stack does not name its base."
        ),
        (BaseReason::Staged, _) => {
            "The change of the lowest diff and this base are those that its author's client pushed to the staging area, \
             since the patches on Phabricator lack content, or do not apply."
                .to_owned()
        }
        (BaseReason::Unknown | BaseReason::NotAHash, None) => String::new(),
    }
}

/// A sentence about the attempts; empty when their number is 0.
fn tried(failure: &InfraFailure) -> String {
    match failure.attempts {
        0 => String::new(),
        1 => "It was tried once.".to_owned(),
        attempts => format!(
            "It was tried {attempts} times within {}.",
            duration(failure.seconds)
        ),
    }
}

/// A sentence about the duration, when it does not stand beside the unit's name.
fn took(seconds: f64) -> String {
    if seconds.is_finite() && seconds >= LONG {
        format!("This took {}.", duration(seconds))
    } else {
        String::new()
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1.5 => "1 second".to_owned(),
        _ if seconds < 90.0 => format!("{seconds:.0} seconds"),
        _ if seconds < 5400.0 => format!("{:.0} minutes", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0} hours", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// `D1, D2 and D3`.
fn names(ids: &[u64]) -> String {
    let mut names: Vec<String> = ids
        .iter()
        .take(MAX_NAMED)
        .map(|id| format!("D{id}"))
        .collect();
    let last = match ids.len().checked_sub(MAX_NAMED) {
        None | Some(0) => names.pop(),
        Some(more) => Some(format!("{more} more")),
    };
    match (names.join(", "), last) {
        (names, Some(last)) if names.is_empty() => last,
        (names, last) => format!("{names} and {}", last.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Phid {
        Phid::parse("PHID-HMBT-00000000000000000001").unwrap()
    }

    #[test]
    fn unit_without_a_finite_positive_time_has_no_duration() {
        let failure = InfraFailure {
            summary: "It broke.".to_owned(),
            details: String::new(),
            attempts: 0,
            seconds: f64::NAN,
        };
        let unit = broken(&target(), &failure);
        assert_eq!(
            (unit.name.as_ref(), unit.result, unit.duration),
            ("general", UnitResult::Broken, None)
        );
        assert_eq!(
            broken(
                &target(),
                &InfraFailure {
                    seconds: 1.5,
                    ..failure.clone()
                }
            )
            .duration,
            Some(1.5)
        );
        assert_eq!(
            broken(
                &target(),
                &InfraFailure {
                    seconds: -1.0,
                    ..failure
                }
            )
            .duration,
            None
        );
    }

    #[test]
    fn long_duration_is_in_the_text_and_not_beside_the_name() {
        let text = || "x".to_owned();
        let failure = PatchFailure {
            vcs: VersionControl::Git,
            summary: text(),
            details: text(),
            advice: text(),
            commands: text(),
            base: None,
            seconds: 99.9994,
        };
        let short = patch_failed(&failure);
        assert_eq!(
            (short.duration, short.details.contains("This took")),
            (Some(99.999), false)
        );
        let long = patch_failed(&PatchFailure {
            seconds: 699.272,
            ..failure
        });
        assert_eq!(long.duration, None);
        assert!(
            long.details.ends_with("This took 12 minutes."),
            "{}",
            long.details
        );
    }

    #[test]
    fn advice_stands_above_the_details() {
        let base = BaseChoice {
            used: "1".repeat(40),
            instead_of: None,
            reason: BaseReason::Named,
            tried: None,
        };
        let failure = PatchFailure {
            vcs: VersionControl::Git,
            summary: "summary".to_owned(),
            details: "details".to_owned(),
            advice: "advice".to_owned(),
            commands: "commands".to_owned(),
            base: Some(base),
            seconds: 1.0,
        };
        let order = |failure: &PatchFailure| {
            let text = patch_failed(failure).details;
            let mut parts = ["summary", "details", "advice", "commands"];
            parts.sort_by_key(|part| text.find(part));
            parts
        };
        assert_eq!(
            order(&failure),
            ["summary", "advice", "commands", "details"]
        );
        let refused = PatchFailure {
            base: None,
            ..failure
        };
        assert_eq!(
            order(&refused),
            ["summary", "details", "advice", "commands"]
        );
    }

    #[test]
    fn author_of_a_failure_is_asked_to_name_the_build_to_the_operators() {
        let failure = InfraFailure {
            summary: "It broke.".to_owned(),
            details: String::new(),
            attempts: 1,
            seconds: 2.0,
        };
        let operators = "the operators of this service, with the id of this build: \
                         `PHID-HMBT-00000000000000000001`.";
        let once = broken(&target(), &failure).details;
        let remedy = format!("Tell {operators} Restart the build when they have mended this.");
        assert!(
            once.contains("It was tried once.") && once.ends_with(&remedy),
            "{once}"
        );
        let often = broken(
            &target(),
            &InfraFailure {
                attempts: 5,
                ..failure
            },
        )
        .details;
        let remedy = format!("Restart the build later. If that fails too, tell {operators}");
        assert!(
            often.contains("tried 5 times within 2 seconds") && often.ends_with(&remedy),
            "{often}"
        );
    }

    #[test]
    fn revisions_are_listed_up_to_ten() {
        let table = [
            (1..=1, "D1"),
            (1..=2, "D1 and D2"),
            (1..=10, "D1, D2, D3, D4, D5, D6, D7, D8, D9 and D10"),
            (
                1..=100,
                "D1, D2, D3, D4, D5, D6, D7, D8, D9, D10 and 90 more",
            ),
        ];
        for (ids, expected) in table {
            assert_eq!(names(&ids.collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn durations_are_rounded_to_one_unit() {
        for (seconds, expected) in [
            (59.6, "60 seconds"),
            (1800.0, "30 minutes"),
            (86_400.0, "24 hours"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
