//! `events builds list`

use std::collections::BTreeSet;

use build::{ALL, BuildRecord, BuildRequest, QueueState, revision_index};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};

use super::{
    archive::{Archive, add_new},
    text::{delayed, outcome, summary},
};
use crate::{
    cli::{BuildList, Deployment},
    commands::{
        print_json,
        table::{Table, span},
    },
    queues,
};

/// Runs `events builds list`.
pub(super) async fn list(options: BuildList, deployment: &Deployment) -> anyhow::Result<()> {
    let archive = Archive::open(deployment).await?;
    let index = options
        .revision
        .map_or_else(|| ALL.to_owned(), revision_index);
    let mut found = archive
        .accepted(|build| options.revision.is_none_or(|id| build.revision_id == id))
        .await?;
    found.retain(|(_, record)| options.matches(record));
    // One more than the limit, to know whether there are more.
    let wanted = options.limit.saturating_add(1);
    for page in 0.. {
        let (mut of_page, last) = archive.page(&index, page).await?;
        of_page.retain(|(_, record)| options.matches(record));
        add_new(&mut found, of_page);
        if last || found.len() >= wanted {
            break;
        }
    }
    let more = found.len() > options.limit;
    found.truncate(options.limit);
    if deployment.output.json {
        return found
            .iter()
            .try_for_each(|(request, record)| print_json(&summary(request, record)));
    }
    if found.is_empty() {
        return crate::print("no build matches");
    }
    let mut table = Table::new(&[
        "BUILD",
        "REVISION ",
        "DIFF ",
        "STATE",
        "OUTCOME",
        "ACCEPTED ",
        "WAITS FOR",
    ]);
    let now = SystemClock.now();
    let paused = paused(&archive, &found).await?;
    for (request, record) in &found {
        table.row(vec![
            request.target.to_string(),
            format!("D{}", request.revision_id),
            request.diff_id.to_string(),
            record.state().to_string(),
            outcome(record),
            format!(
                "{} ago",
                span(now.duration_since(request.accepted_at).unsigned_abs())
            ),
            waits_for(record, &paused, now),
        ]);
    }
    if more {
        table.row(vec!["… there are more; raise --limit".to_owned()]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

/// The paused queues among those of the open builds.
async fn paused(
    archive: &Archive,
    builds: &[(BuildRequest, BuildRecord)],
) -> anyhow::Result<BTreeSet<String>> {
    let open = builds
        .iter()
        .filter(|(_, record)| record.published_at.is_none());
    let names: BTreeSet<&str> = open
        .filter_map(|(_, record)| Some(record.now.as_ref()?.queue.as_str()))
        .collect();
    let mut paused = BTreeSet::new();
    for queue in queues::all()
        .into_iter()
        .filter(|queue| names.contains(queue.name))
    {
        if archive.bus.status(&queue).await?.paused {
            paused.insert(queue.name.to_owned());
        }
    }
    Ok(paused)
}

/// The thing that an open build waits for, in a few words; empty for a closed one.
fn waits_for(record: &BuildRecord, paused: &BTreeSet<String>, now: Timestamp) -> String {
    let Some(place) = record
        .now
        .as_ref()
        .filter(|_| record.published_at.is_none())
    else {
        return String::new();
    };
    let queue = &place.queue;
    let paused = if paused.contains(queue) {
        ", which is paused"
    } else {
        ""
    };
    match &place.step {
        QueueState::Ready => format!("its turn in {queue}{paused}"),
        QueueState::Working { process, .. } => format!("{process}, which works on it in {queue}"),
        QueueState::Delayed { .. } => format!(
            "{queue}{paused}: {}",
            delayed(place, now).unwrap_or_default()
        ),
    }
}
