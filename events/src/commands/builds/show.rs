//! `events builds show`: the history of a build.

use build::{
    BuildEventKind, BuildRecord, BuildRequest, BuildUpdate, Event, FinalOutcome, QueueState, Source,
};
use bus::QueueStatus;
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    archive::Archive,
    text::{delayed, of_attempts, outcome, state_and_age, state_and_outcome, summary},
};
use crate::{
    cli::{Deployment, OneBuild},
    commands::{
        print_json,
        table::{Table, span},
    },
    queues::{self, BUILD_LOAD, BUILD_PUSH},
};

/// Runs `events builds show`.
pub(super) async fn show(options: OneBuild, deployment: &Deployment) -> anyhow::Result<()> {
    let archive = Archive::open(deployment).await?;
    let found = archive.find(&options.build).await?;
    let Some(((request, record), older)) = found.split_first() else {
        return Ok(());
    };
    let queue = record
        .now
        .as_ref()
        .filter(|_| record.published_at.is_none())
        .map(|now| now.queue.clone());
    let spec = queue
        .as_ref()
        .and_then(|name| queues::all().into_iter().find(|queue| queue.name == name));
    let status = match &spec {
        Some(queue) => Some(archive.bus.status(queue).await?),
        None => None,
    };
    // Assume that the deployment publishes, unless the configuration of this command says otherwise.
    let publish = archive.records.publish.unwrap_or(true);
    if deployment.output.json {
        let mut history = summary(request, record);
        history["events"] = json!(record.events);
        history["base"] = json!(record.base);
        history["next"] = json!(next(record, publish));
        history["end"] = json!(record.end);
        let answers = record
            .sent()
            .map(|(at, answer)| json!({ "at": at, "act": answer.act, "heading": answer.heading, "text": answer.text }));
        history["answers"] = answers.collect();
        history["published"] = json!(published(record));
        history["queue"] = json!(status.map(|status| json!({
            "name": queue,
            "paused": status.paused,
            "ready": status.depth.ready,
            "in_flight": status.depth.in_flight,
            "delayed": status.depth.delayed,
        })));
        history["older"] = json!(
            older
                .iter()
                .map(|(request, _)| &request.target)
                .collect::<Vec<_>>()
        );
        return print_json(&history);
    }
    let mut lines = history(request, record, status.as_ref(), publish, SystemClock.now());
    if !older.is_empty() {
        lines.push(String::new());
        lines.push("older builds:".to_owned());
        for (request, record) in older {
            lines.push(format!(
                "  {}  diff {}  {}",
                request.target,
                request.diff_id,
                state_and_outcome(record)
            ));
        }
    }
    lines.iter().try_for_each(|line| crate::print(line))
}

/// The history as text for people.
fn history(
    request: &BuildRequest,
    record: &BuildRecord,
    status: Option<&QueueStatus>,
    publish: bool,
    now: Timestamp,
) -> Vec<String> {
    let ago = |at: Timestamp| format!("{} ago", span(now.duration_since(at).unsigned_abs()));
    let mut lines = vec![
        format!(
            "{}: diff {} of D{}",
            request.target, request.diff_id, request.revision_id
        ),
        state_and_age(request, record, now),
        String::new(),
    ];
    let mut table = Table::new(&["TIME (UTC)", "EVENT", "PROCESS"]);
    for event in &record.events {
        let when = event.at.strftime("%F %T").to_string();
        table.row(vec![when, describe(event), event.process.clone()]);
    }
    lines.extend(table.lines());
    lines.push(String::new());
    if record.published_at.is_none() {
        lines.push(format!("now:  {}", location(record, now)));
        if let Some(status) = status {
            let (ready, held) = (status.depth.ready, status.depth.in_flight);
            let paused = if status.paused { ", and is paused" } else { "" };
            lines.push(format!(
                "      the queue has {ready} ready and {held} in flight{paused}"
            ));
        }
        lines.push(format!(
            "next: {}",
            next(record, publish).unwrap_or("nothing")
        ));
        if let Some(at) = record.claimed_at {
            let ago = ago(at);
            lines.push(format!(
                "      a worker claimed the answer {ago}: whether it was sent is not known yet"
            ));
        }
    }
    if let Some(end) = &record.end {
        let closed = record
            .published_at
            .map_or_else(String::new, |at| format!(", closed {}", ago(at)));
        let name = outcome(record);
        lines.push(format!(
            "outcome: {name}, decided {}{closed}; {}",
            ago(end.at),
            sanitized(&published(record))
        ));
        lines.extend(place(&end.outcome));
    }
    for (at, answer) in record.sent() {
        lines.push(String::new());
        lines.push(format!("  sent {} UTC", at.strftime("%F %T")));
        lines.extend(
            answer
                .to_string()
                .lines()
                .map(|line| format!("  {}", sanitized(line))),
        );
    }
    lines
}

/// The head of a pushed build with the ref that it is on, and the page with its jobs, as far as there are any.
fn place(outcome: &FinalOutcome) -> Vec<String> {
    let FinalOutcome::Answered(BuildUpdate::Pushed(pushed)) = outcome else {
        return Vec::new();
    };
    let head = match &pushed.reference {
        Some(reference) => format!("head: {} at {reference}", pushed.revision),
        None => format!("head: {}", pushed.revision),
    };
    let jobs = pushed.jobs_url.iter().map(|url| format!("jobs: {url}"));
    [head]
        .into_iter()
        .chain(jobs)
        .map(|line| sanitized(&line))
        .collect()
}

/// A clause on whether the final report was published. A `Published` event before the end is that of `work`.
fn published(record: &BuildRecord) -> String {
    let events = &record.events;
    let decided = events
        .iter()
        .position(|event| matches!(event.kind, BuildEventKind::Ended(_)));
    let from = decided.unwrap_or(if record.published_at.is_some() {
        0
    } else {
        events.len()
    });
    let last = events[from..]
        .iter()
        .rev()
        .find_map(|event| match &event.kind {
            BuildEventKind::Published { .. } => Some("published".to_owned()),
            BuildEventKind::NotPublished { reason } => Some(format!("not published: {reason}")),
            BuildEventKind::Adopted { .. } => {
                Some("nothing published: another service had pushed it".to_owned())
            }
            BuildEventKind::Conflict { key, .. } => {
                Some(format!("not published: the target has another link {key}"))
            }
            _ => None,
        });
    match (last, record.published_at) {
        (Some(last), _) => last,
        (None, None) => "not published yet".to_owned(),
        (None, Some(_)) => "nothing published".to_owned(),
    }
}

/// One line without control characters: texts quote tools and authors.
fn sanitized(line: &str) -> String {
    runtime::sanitize::plain(line).replace('\n', " ")
}

fn describe(event: &Event) -> String {
    match &event.kind {
        BuildEventKind::Accepted {
            source: Source::Harbormaster,
        } => "accepted from Harbormaster".to_owned(),
        BuildEventKind::Accepted {
            source: Source::Audit,
        } => "accepted by the audit: it waits in Harbormaster, and its request was lost".to_owned(),
        BuildEventKind::NotPublicYet { check, checks, why } => {
            format!("check {check} of {checks}: {}", why.text())
        }
        BuildEventKind::Loaded {
            revisions,
            landed,
            base,
        } => {
            let names = |ids: &[u64]| {
                ids.iter()
                    .map(|id| format!("D{id}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let base = base.as_deref().unwrap_or("none named");
            let landed = if landed.is_empty() {
                String::new()
            } else {
                format!("; landed: {}", names(landed))
            };
            format!("public; loaded {} (base {base}{landed})", names(revisions))
        }
        BuildEventKind::Failed {
            queue,
            attempt,
            reason,
        } => format!("attempt {attempt} in {queue} failed: {reason}"),
        BuildEventKind::Deferred { queue, reason, .. } => format!("waits in {queue}: {reason}"),
        BuildEventKind::BaseChosen(base) => format!("base chosen: {}", base.used),
        BuildEventKind::Ended(outcome) => format!("outcome: {outcome}"),
        BuildEventKind::Sent(answer) => match &answer.heading {
            Some(heading) => format!("sent to its target: [{}] {heading}", answer.act),
            None => format!("sent to its target: [{}]", answer.act),
        },
        BuildEventKind::Published { what } => format!("published: {what}"),
        BuildEventKind::NotPublished { reason } => format!("not published: {reason}"),
        BuildEventKind::Adopted { key } => {
            format!("adopted: its target has the link {key} already")
        }
        BuildEventKind::Conflict { key, ours, theirs } => {
            let theirs = theirs
                .as_deref()
                .unwrap_or("an address that Harbormaster does not show");
            format!("conflict: its target has another link {key} ({theirs}), ours is {ours}")
        }
        BuildEventKind::Restarted => {
            "restarted in Harbormaster by an operator: it has a new target".to_owned()
        }
        BuildEventKind::Redriven { reason } => format!("sent again: {reason}"),
    }
}

/// The location of the build's message.
fn location(record: &BuildRecord, now: Timestamp) -> String {
    let Some(place) = &record.now else {
        return "in no queue: run `events builds audit`".to_owned();
    };
    let since = span(now.duration_since(place.since).unsigned_abs());
    match &place.step {
        QueueState::Ready => format!("in {}, ready, for {since}", place.queue),
        QueueState::Working { attempt, process } => {
            format!(
                "in {}, attempt {attempt}{} by {process}, for {since}",
                place.queue,
                of_attempts(&place.queue)
            )
        }
        QueueState::Delayed { .. } => {
            format!(
                "in {}, {}",
                place.queue,
                sanitized(&delayed(place, now).unwrap_or_default())
            )
        }
    }
}

/// The next step; `None` when the build is closed.
fn next(record: &BuildRecord, publish: bool) -> Option<&'static str> {
    if record.published_at.is_some() {
        return None;
    }
    let ends = match publish {
        true => "its outcome is published on its build target",
        false => "its outcome is recorded, and not published: publish is false",
    };
    if record.end.is_some() {
        return Some(ends);
    }
    let queue = record.now.as_ref().map(|now| now.queue.as_str());
    Some(match queue {
        Some(queue) if queue == BUILD_LOAD.spec().name => {
            "its revision is checked; when it is public, its stack is loaded"
        }
        Some(queue) if queue == BUILD_PUSH.spec().name => {
            "its stack is applied on a clone and pushed to its destination"
        }
        _ => ends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_a_head_has_its_ref_and_its_jobs() {
        let pushed = |reference: Option<&str>, jobs_url: Option<&str>| {
            let pushed = json!({
                "revision": "c0ffee", "ref": reference, "jobs_url": jobs_url, "patches": 1, "revisions": [7],
                "landed": [], "abandoned": [], "base": {"used": "ba5e", "instead_of": null, "reason": "named"},
                "seconds": 1.0,
            });
            let pushed = serde_json::from_value(pushed).expect("a push");
            FinalOutcome::Answered(BuildUpdate::Pushed(pushed))
        };
        let (reference, url) = ("refs/heads/phabricator/D7/9", "https://ci.example.com/9");
        let table = [
            (
                pushed(Some(reference), Some(url)),
                vec![
                    "head: c0ffee at refs/heads/phabricator/D7/9",
                    "jobs: https://ci.example.com/9",
                ],
            ),
            (
                pushed(Some(reference), None),
                vec!["head: c0ffee at refs/heads/phabricator/D7/9"],
            ),
            (
                pushed(None, Some("https://ci.example.com/\u{1b}9")),
                vec!["head: c0ffee", "jobs: https://ci.example.com/9"],
            ),
            (FinalOutcome::PushedBefore, vec![]),
        ];
        for (outcome, expected) in table {
            assert_eq!(place(&outcome), expected, "{outcome:?}");
        }
    }
}
