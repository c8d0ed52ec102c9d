//! The texts and the JSON in which the commands show a build.

use build::{BuildLocation, BuildOutcome, BuildRecord, BuildRequest, BuildState, QueueState};
use jiff::Timestamp;
use serde_json::json;

use crate::{commands::table::span, queues};

/// The attempts, the time of the next delivery and the reason: "attempt 4 of 5, next at 14:32 UTC (in 18 min): reason".
pub(super) fn delayed(place: &BuildLocation, now: Timestamp) -> Option<String> {
    let QueueState::Delayed {
        until,
        reason,
        attempt,
    } = &place.step
    else {
        return None;
    };
    let next = if *until > now {
        let day = if until.duration_since(now).as_hours() < 24 {
            "%H:%M"
        } else {
            "%F %H:%M"
        };
        let wait = span(until.duration_since(now).unsigned_abs());
        format!("next at {} UTC (in {wait})", until.strftime(day))
    } else {
        "next now".to_owned()
    };
    Some(match attempt {
        0 => format!("{next}: {reason}"),
        attempt => format!(
            "attempt {attempt}{}, {next}: {reason}",
            of_attempts(&place.queue)
        ),
    })
}

/// The number of attempts that the policy of a queue allows: " of 5". Empty for an unknown queue.
pub(super) fn of_attempts(queue: &str) -> String {
    let spec = queues::all().into_iter().find(|spec| spec.name == queue);
    spec.map(|spec| format!(" of {}", spec.policy.attempts))
        .unwrap_or_default()
}

/// The outcome of a build, with its reason; empty until it is decided.
pub(super) fn outcome(record: &BuildRecord) -> String {
    let outcome = record.outcome();
    outcome
        .map(|outcome| outcome.to_string())
        .unwrap_or_default()
}

/// The state of a build until its outcome is decided, and then that: "skipped (cancelled)", "published: skipped (expired)".
pub(super) fn state_and_outcome(record: &BuildRecord) -> String {
    match (record.state(), record.outcome()) {
        (state @ BuildState::Published, Some(outcome)) => format!("{state}: {outcome}"),
        (_, Some(outcome)) => outcome.to_string(),
        (state, None) => state.to_string(),
    }
}

/// The same, and how long ago the build was accepted: "applying, accepted 16 s ago".
pub(super) fn state_and_age(
    request: &BuildRequest,
    record: &BuildRecord,
    now: Timestamp,
) -> String {
    let age = span(now.duration_since(request.accepted_at).unsigned_abs());
    match (record.state(), record.outcome()) {
        (BuildState::Accepted, None) => format!("accepted {age} ago"),
        _ => format!("{}, accepted {age} ago", state_and_outcome(record)),
    }
}

/// The summary of a build, as a JSON object.
pub(super) fn summary(request: &BuildRequest, record: &BuildRecord) -> serde_json::Value {
    json!({
        "target": request.target,
        "revision": request.revision_id,
        "diff": request.diff_id,
        "repository": request.repository,
        "state": record.state(),
        "outcome": record.outcome().map(BuildOutcome::name),
        "reason": record.outcome().and_then(BuildOutcome::reason),
        "accepted_at": request.accepted_at,
        "ended_at": record.end.as_ref().map(|end| end.at),
        "published_at": record.published_at,
        "now": record.now.as_ref().filter(|_| record.published_at.is_none()),
    })
}
