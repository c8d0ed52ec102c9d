//! `events why`: the whole story of a build.

use build::{BuildOutcome, BuildRecord, BuildRequest, Event, Source, Step, What};
use bus::QueueStatus;
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    builds::{Archive, delayed, of_attempts, state_and_outcome, summary},
    print_json,
    table::{Table, span},
};
use crate::{
    cli::OneBuild,
    queues::{self, BUILD_LOAD, BUILD_PUSH},
};

/// Runs `events why`.
pub async fn why(options: OneBuild) -> anyhow::Result<()> {
    let archive = Archive::open(&options.deployment).await?;
    let found = archive.find(&options.which).await?;
    let Some(((request, record), older)) = found.split_first() else {
        return Ok(());
    };
    let queue = record
        .now
        .as_ref()
        .filter(|_| record.told.is_none())
        .map(|now| now.queue.clone());
    let spec = queue
        .as_ref()
        .and_then(|name| queues::all().into_iter().find(|queue| queue.name == name));
    let status = match &spec {
        Some(queue) => Some(archive.bus.status(queue).await?),
        None => None,
    };
    // Without a word of it in the configuration of this command, it is taken to be published.
    let publish = archive.records.publish.unwrap_or(true);
    if options.deployment.output.json {
        let mut story = summary(request, record);
        story["events"] = json!(record.events);
        story["base"] = json!(record.base);
        story["next"] = json!(next(record, publish));
        story["end"] = json!(record.end);
        let answers = record
            .sent()
            .map(|(at, answer)| json!({ "at": at, "act": answer.act, "heading": answer.heading, "text": answer.text }));
        story["answers"] = answers.collect();
        story["published"] = json!(published(record));
        story["queue"] = json!(status.map(|status| json!({
            "name": queue,
            "paused": status.paused,
            "ready": status.depth.ready,
            "in_flight": status.depth.in_flight,
            "delayed": status.depth.delayed,
        })));
        story["older"] = json!(
            older
                .iter()
                .map(|(request, _)| &request.target)
                .collect::<Vec<_>>()
        );
        return print_json(&story);
    }
    let mut lines = story(request, record, status.as_ref(), publish, SystemClock.now());
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

/// The story for a person.
fn story(
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
        format!(
            "{}, accepted {}",
            state_and_outcome(record),
            ago(request.accepted_at)
        ),
        String::new(),
    ];
    let mut table = Table::new(&["WHEN (UTC)", "WHAT", "WHERE"]);
    for event in &record.events {
        let when = event.at.strftime("%F %T").to_string();
        table.row(vec![when, words(event), event.process.clone()]);
    }
    lines.extend(table.lines());
    lines.push(String::new());
    if record.told.is_none() {
        lines.push(format!("now:  {}", place(record, now)));
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
                "      an answer was about to be sent {ago}: whether it arrived is not known yet"
            ));
        }
    }
    if let Some(end) = &record.end {
        let closed = record
            .told
            .map_or_else(String::new, |at| format!(", closed {}", ago(at)));
        let name = BuildOutcome::from(&end.outcome);
        lines.push(format!(
            "outcome: {name}, decided {}{closed}; {}",
            ago(end.at),
            tame(&published(record))
        ));
    }
    for (at, answer) in record.sent() {
        lines.push(String::new());
        lines.push(format!("  sent {} UTC", at.strftime("%F %T")));
        lines.extend(
            answer
                .to_string()
                .lines()
                .map(|line| format!("  {}", tame(line))),
        );
    }
    lines
}

/// Whether its end was published, and why not. `Told` and `NotTold` are recorded of an end; `Told` of `work` as well,
/// before there is an end.
fn published(record: &BuildRecord) -> String {
    let events = &record.events;
    let decided = events
        .iter()
        .position(|event| matches!(event.what, What::Ended(_)));
    let from = decided.unwrap_or(if record.told.is_some() {
        0
    } else {
        events.len()
    });
    let last = events[from..]
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            What::Told { .. } => Some("published".to_owned()),
            What::NotTold { reason } => Some(format!("not published: {reason}")),
            What::Adopted { .. } => {
                Some("nothing published: somebody else had pushed it".to_owned())
            }
            What::Conflict { key, .. } => {
                Some(format!("not published: the target has another link {key}"))
            }
            _ => None,
        });
    match (last, record.told) {
        (Some(last), _) => last,
        (None, None) => "not published yet".to_owned(),
        (None, Some(_)) => "nothing published".to_owned(),
    }
}

/// A line without what a terminal would obey: texts quote what tools and authors wrote.
fn tame(line: &str) -> String {
    runtime::sanitize::plain(line).replace('\n', " ")
}

fn words(event: &Event) -> String {
    match &event.what {
        What::Accepted {
            source: Source::Harbormaster,
        } => "accepted from Harbormaster".to_owned(),
        What::Accepted {
            source: Source::Audit,
        } => "found waiting in Harbormaster, its request was lost".to_owned(),
        What::Hidden { look, looks, why } => format!("look {look} of {looks}: {}", why.text()),
        What::Loaded {
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
        What::Failed {
            queue,
            attempt,
            reason,
        } => format!("attempt {attempt} in {queue} failed: {reason}"),
        What::Parked { queue, reason, .. } => format!("waits in {queue}: {reason}"),
        What::Based(base) => format!("put on {}", base.used),
        What::Ended(outcome) => format!("outcome: {outcome}"),
        What::Sent(answer) => match &answer.heading {
            Some(heading) => format!("sent to its target: [{}] {heading}", answer.act),
            None => format!("sent to its target: [{}]", answer.act),
        },
        What::Told { what } => format!("published: {what}"),
        What::NotTold { reason } => format!("not published: {reason}"),
        What::Adopted { key } => format!("its target has the link {key} already: not built again"),
        What::Conflict { key, ours, theirs } => {
            let theirs = theirs
                .as_deref()
                .unwrap_or("an address that Harbormaster does not show");
            format!("conflict: its target has another link {key} ({theirs}), ours is {ours}")
        }
        What::Restarted => {
            "restarted in Harbormaster by an operator: it has a new target".to_owned()
        }
        What::Redriven { reason } => format!("sent again: {reason}"),
    }
}

/// Where it is.
fn place(record: &BuildRecord, now: Timestamp) -> String {
    let Some(place) = &record.now else {
        return "nobody knows: see `events audit`".to_owned();
    };
    let since = span(now.duration_since(place.since).unsigned_abs());
    match &place.step {
        Step::Ready => format!("in {}, to be taken, for {since}", place.queue),
        Step::Working { attempt, process } => {
            format!(
                "in {}, attempt {attempt}{} by {process}, for {since}",
                place.queue,
                of_attempts(&place.queue)
            )
        }
        Step::Delayed { .. } => {
            format!(
                "in {}, {}",
                place.queue,
                tame(&delayed(place, now).unwrap_or_default())
            )
        }
    }
}

/// What comes next.
fn next(record: &BuildRecord, publish: bool) -> Option<&'static str> {
    if record.told.is_some() {
        return None;
    }
    let ends = match publish {
        true => "its end is published on its build target",
        false => "its end is recorded, and not published: publish is false",
    };
    if record.end.is_some() {
        return Some(ends);
    }
    let queue = record.now.as_ref().map(|now| now.queue.as_str());
    Some(match queue {
        Some(queue) if queue == BUILD_LOAD.spec().name => {
            "its revision is looked at; when it is public, its stack is loaded"
        }
        Some(queue) if queue == BUILD_PUSH.spec().name => {
            "its stack is applied on a clone and pushed to Try"
        }
        _ => ends,
    })
}
