//! `events queues`

use std::time::Duration;

use anyhow::bail;
use bus::{Admin, MessageReport, MessageState, Messages, QueueReport};
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    admin, counted, print_json, print_pretty,
    table::{Table, span},
    terminal::{confirm_drop, progress},
};
use crate::cli::{Drain, MessageChoice, QueueAction, Queues};

/// The interval between two polls of a queue that is being drained.
const POLL: Duration = Duration::from_millis(500);

/// Runs `events queues`.
pub async fn queues(options: Queues) -> anyhow::Result<()> {
    let admin = admin(&options.deployment).await?;
    let json = options.deployment.output.json;
    match options.action {
        QueueAction::List => list(&admin.queues().await?, json),
        QueueAction::Peek {
            queue,
            id: Some(id),
            ..
        } => {
            let message = admin.message(&queue, id).await?;
            if json {
                print_json(&message)
            } else {
                print_pretty(&message)
            }
        }
        QueueAction::Peek {
            queue,
            id: None,
            limit,
        } => peek(&admin, &queue, limit, json).await,
        QueueAction::Requeue { queue, which } => {
            let requeued = admin.requeue(&queue, which.into()).await?;
            if json {
                return print_json(&json!({"queue": queue, "requeued": requeued}));
            }
            if requeued == 0 {
                return crate::print(&format!("requeued nothing: {queue} has no delayed message"));
            }
            crate::print(&format!(
                "made {} of {queue} ready",
                counted(requeued, "delayed message")
            ))
        }
        QueueAction::Drop { queue, which, yes } => {
            let selected = Messages::from(which);
            let count = admin.count_waiting(&queue, selected).await?;
            let mut dropped = 0;
            if count == 0 && !json {
                return crate::print(&format!(
                    "dropped nothing: {queue} has no message that is ready or delayed"
                ));
            }
            if count > 0 {
                confirm_drop(&format!("{} of {queue}", counted(count, "message")), yes)?;
                dropped = admin.drop_waiting(&queue, selected).await?;
            }
            if json {
                return print_json(&json!({"queue": queue, "dropped": dropped}));
            }
            crate::print(&format!(
                "dropped {} of {queue}",
                counted(dropped, "message")
            ))
        }
        QueueAction::Pause { queue } => pause(&admin, &queue, true, json).await,
        QueueAction::Resume { queue } => pause(&admin, &queue, false, json).await,
        QueueAction::Drain(options) => drain(&admin, &options, json).await,
    }
}

impl From<MessageChoice> for Messages {
    fn from(MessageChoice { id, all }: MessageChoice) -> Self {
        Self { id, all }
    }
}

fn list(reports: &[QueueReport], json: bool) -> anyhow::Result<()> {
    if json {
        return reports.iter().try_for_each(print_json);
    }
    let mut table = Table::new(&[
        "QUEUE",
        "READY ",
        "IN FLIGHT ",
        "DELAYED ",
        "DEAD ",
        "OLDEST ",
        "PER MIN ",
        "STATE",
    ]);
    for report in reports {
        let depth = report.depth;
        let oldest = report
            .oldest_seconds
            .map(|age| span(Duration::from_secs_f64(age)));
        table.row(vec![
            report.queue.to_owned(),
            depth.ready.to_string(),
            depth.in_flight.to_string(),
            depth.delayed.to_string(),
            depth.dead.to_string(),
            oldest.unwrap_or_else(|| "-".to_owned()),
            format!("{:.1}", report.settled_per_minute),
            if report.paused {
                "paused".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

async fn peek(admin: &Admin, queue: &str, limit: usize, json: bool) -> anyhow::Result<()> {
    // One more than is shown, to know whether there are more.
    let mut messages = admin.messages(queue, limit.saturating_add(1)).await?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    if json {
        return messages.iter().try_for_each(print_json);
    }
    if messages.is_empty() {
        return crate::print(&format!("{queue} has no messages"));
    }
    let mut table = Table::new(&[
        "ID",
        "STATE",
        "SINCE ",
        "ATTEMPTS ",
        "BYTES ",
        "VERSION ",
        "PARTITION",
    ]);
    for message in &messages {
        table.row(row(message));
    }
    if more {
        table.row(vec!["… there are more; raise --limit".to_owned()]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

fn row(message: &MessageReport) -> Vec<String> {
    let now = SystemClock.now();
    let (state, when) = match message.state {
        MessageState::Ready { since } => ("ready", span(now.duration_since(since).unsigned_abs())),
        MessageState::InFlight { since } => {
            ("in flight", span(now.duration_since(since).unsigned_abs()))
        }
        MessageState::Delayed { due } if due <= now => ("delayed", "due".to_owned()),
        MessageState::Delayed { due } => (
            "delayed",
            format!("in {}", span(due.duration_since(now).unsigned_abs())),
        ),
    };
    vec![
        message.id.to_string(),
        state.to_owned(),
        when,
        message.attempts.to_string(),
        message.contents.body_bytes.to_string(),
        message
            .contents
            .version
            .map(|version| version.to_string())
            .unwrap_or_default(),
        message.contents.partition.clone().unwrap_or_default(),
    ]
}

async fn pause(admin: &Admin, queue: &str, paused: bool, json: bool) -> anyhow::Result<()> {
    let before = admin.queue(queue).await?.paused;
    let report = admin.set_paused(queue, paused).await?;
    if json {
        return print_json(&report);
    }
    let state = match (before, paused) {
        (false, true) => "is paused",
        (true, true) => "was already paused",
        (true, false) => "is resumed",
        (false, false) => "was not paused",
    };
    crate::print(&format!("{queue} {state}: {}", remaining(&report)))
}

/// The numbers of messages that are still to be handled.
fn remaining(report: &QueueReport) -> String {
    let depth = report.depth;
    format!(
        "{} ready, {} in flight, {} delayed",
        depth.ready, depth.in_flight, depth.delayed
    )
}

async fn drain(admin: &Admin, options: &Drain, json: bool) -> anyhow::Result<()> {
    let queue = &options.queue;
    let begun = SystemClock.now();
    let progress = progress();
    let report = loop {
        let report = admin.queue(queue).await?;
        let state = if report.paused { " is paused" } else { "" };
        progress.set_message(format!("{queue}{state}: {}", remaining(&report)));
        let waited = SystemClock.now().duration_since(begun).unsigned_abs();
        if report.depth.unfinished() == 0
            || options.timeout.is_some_and(|most| waited.as_secs() >= most)
        {
            break report;
        }
        SystemClock.sleep(POLL).await;
    };
    progress.finish_and_clear();
    if json {
        print_json(&report)?;
    }
    if report.depth.unfinished() > 0 {
        let paused = if report.paused { " (it is paused)" } else { "" };
        bail!(
            "{queue} is not drained after {} s: {}{paused}",
            options.timeout.unwrap_or_default(),
            remaining(&report)
        );
    }
    if json {
        Ok(())
    } else {
        crate::print(&format!("{queue} is drained"))
    }
}
