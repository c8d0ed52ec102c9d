//! `events why`: the whole story of a build.

use bus::{Clock, QueueStatus, SystemClock};
use jiff::Timestamp;
use phabricator::{
    answer,
    model::{BuildRecord, BuildRequest, BuildState, Event, Outcome, Source, Step, What},
};
use serde_json::json;

use super::{
    builds::{Archive, summary},
    print_json,
    table::{Table, span},
};
use crate::{cli::OneBuild, queues};

/// Runs `events why`.
pub async fn why(options: OneBuild) -> anyhow::Result<()> {
    let archive = Archive::open(&options.deployment).await?;
    let found = archive.find(&options.which).await?;
    let Some(((request, record), older)) = found.split_first() else { return Ok(()) };
    let queue = record.now.as_ref().filter(|_| record.told.is_none()).map(|now| now.queue.clone());
    let spec = queue.as_ref().and_then(|name| queues::all().into_iter().find(|queue| queue.name == name));
    let status = match &spec {
        Some(queue) => Some(archive.bus.status(queue).await?),
        None => None,
    };
    if options.deployment.output.json {
        let mut story = summary(request, record);
        story["events"] = json!(record.events);
        story["base"] = json!(record.base);
        story["next"] = json!(next(record));
        story["end"] = json!(record.end);
        story["answers"] = json!(answers(record));
        story["queue"] = json!(status.map(|status| json!({
            "name": queue,
            "paused": status.paused,
            "ready": status.depth.ready,
            "in_flight": status.depth.in_flight,
            "delayed": status.depth.delayed,
        })));
        story["older"] = json!(older.iter().map(|(request, _)| &request.target).collect::<Vec<_>>());
        return print_json(&story);
    }
    let mut lines = story(request, record, status.as_ref(), SystemClock.now());
    if !older.is_empty() {
        lines.push(String::new());
        lines.push("older builds:".to_owned());
        for (request, record) in older {
            lines.push(format!("  {}  diff {}  {}", request.target, request.diff_id, record.state().name()));
        }
    }
    lines.iter().try_for_each(|line| crate::print(line))
}

/// The story for a person.
fn story(request: &BuildRequest, record: &BuildRecord, status: Option<&QueueStatus>, now: Timestamp) -> Vec<String> {
    let ago = |at: Timestamp| format!("{} ago", span(now.duration_since(at).unsigned_abs()));
    let mut lines = vec![
        format!("{}: diff {} of D{}", request.target, request.diff_id, request.revision_id),
        format!("{}, accepted {}", record.state().name(), ago(request.accepted_at)),
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
            lines.push(format!("      the queue has {ready} ready and {held} in flight{paused}"));
        }
        lines.push(format!("next: {}", next(record).unwrap_or("nothing")));
    }
    if let Some(end) = &record.end {
        let said = record.told.map_or_else(|| "not said yet".to_owned(), |at| format!("closed {}", ago(at)));
        let name = BuildState::from(&end.outcome).name();
        lines.push(format!("end:  {name}, decided {}, {said}", ago(end.at)));
        for answer in answers(record) {
            lines.push(String::new());
            lines.extend(answer.to_string().lines().map(|line| format!("  {}", tame(line))));
        }
    }
    lines
}

/// A line without what a terminal would obey: texts quote what tools and authors wrote.
fn tame(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn answers(record: &BuildRecord) -> Vec<phabricator::Answer> {
    match record.end.as_ref().map(|end| &end.outcome) {
        Some(Outcome::Answered(report)) => answer(report),
        Some(Outcome::EndedElsewhere) | None => Vec::new(),
    }
}

fn words(event: &Event) -> String {
    match &event.what {
        What::Accepted { source: Source::Harbormaster } => "accepted from Harbormaster".to_owned(),
        What::Accepted { source: Source::Audit } => "found waiting in Harbormaster, its request was lost".to_owned(),
        What::Hidden { look, looks } => format!("not public, look {look} of {looks}"),
        What::Loaded { revisions, landed, base } => {
            let names = |ids: &[u64]| ids.iter().map(|id| format!("D{id}")).collect::<Vec<_>>().join(", ");
            let base = base.as_deref().unwrap_or("none named");
            let landed = if landed.is_empty() { String::new() } else { format!("; landed: {}", names(landed)) };
            format!("public; loaded {} (base {base}{landed})", names(revisions))
        }
        What::Failed { queue, attempt, reason } => format!("attempt {attempt} in {queue} failed: {reason}"),
        What::Parked { queue, reason } => format!("waits in {queue}: {reason}"),
        What::Based(base) => format!("put on {}", base.used),
        What::Ended(state) => format!("its end: {}", state.name()),
        What::Told { what } => format!("said on its target: {what}"),
        What::NotTold { reason } => format!("not said on its target: {reason}"),
        What::Redriven { reason } => format!("sent again: {reason}"),
    }
}

/// Where it is.
fn place(record: &BuildRecord, now: Timestamp) -> String {
    let Some(place) = &record.now else { return "nobody knows: see `events audit`".to_owned() };
    let since = span(now.duration_since(place.since).unsigned_abs());
    match &place.step {
        Step::Ready => format!("in {}, to be taken, for {since}", place.queue),
        Step::Working { attempt, process } => {
            format!("in {}, attempt {attempt} by {process}, for {since}", place.queue)
        }
        Step::Delayed { until, reason } if *until > now => {
            format!(
                "in {} for another {}: {}",
                place.queue,
                span(until.duration_since(now).unsigned_abs()),
                tame(reason)
            )
        }
        Step::Delayed { reason, .. } => format!("in {}, due now: {}", place.queue, tame(reason)),
    }
}

/// What comes next.
fn next(record: &BuildRecord) -> Option<&'static str> {
    if record.told.is_some() {
        return None;
    }
    if record.end.is_some() {
        return Some("its answer is said on its build target");
    }
    Some(match record.now.as_ref().map(|now| now.queue.as_str()) {
        Some("builds") => "its revision is looked at; when it is public, its stack is loaded",
        Some("mercurial") => "its stack is applied on a clone and pushed to Try",
        _ => "its answer is said on its build target",
    })
}
