//! `events dead-letters`

use anyhow::bail;
use bus::{Admin, DeadLetterContents, DeadLetterFilter, DeadLetterReport, KeptDeadLetter};
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    admin, counted, print_json, print_pretty,
    table::{Table, span},
    terminal::confirm_drop,
};
use crate::cli::{DeadLetterAction, DeadLetterChoice, DeadLetters};

/// Runs `events dead-letters`.
pub async fn dead_letters(options: DeadLetters) -> anyhow::Result<()> {
    let admin = admin(&options.deployment).await?;
    let json = options.deployment.output.json;
    match options.action {
        DeadLetterAction::List {
            queue,
            reason,
            limit,
        } => {
            list(
                &admin,
                queue.as_deref(),
                reason.as_deref().unwrap_or_default(),
                limit,
                json,
            )
            .await
        }
        DeadLetterAction::Show { id, queue } => {
            let letter: DeadLetterContents = admin.dead_letter(queue.as_deref(), &id).await?;
            if json {
                print_json(&letter)
            } else {
                print_pretty(&letter)
            }
        }
        DeadLetterAction::Requeue { which } => {
            let chosen = admin.choose(&which.into()).await?;
            let none = chosen.count() == 0;
            let outcome = admin.requeue_dead(&chosen).await?;
            if json {
                print_json(&outcome)?;
            } else if none {
                crate::print("requeued nothing: no dead letter matches")?;
            } else {
                crate::print(&format!(
                    "requeued {}",
                    counted(outcome.requeued, "dead letter")
                ))?;
                for KeptDeadLetter { queue, id, reason } in &outcome.kept {
                    crate::print(&format!("kept {id} of {queue}: {reason}"))?;
                }
                if !outcome.unreadable.is_empty() {
                    crate::print(&format!(
                        "kept {} that cannot be read: {}",
                        counted(outcome.unreadable.len(), "dead letter"),
                        outcome.unreadable.join(", ")
                    ))?;
                }
            }
            if outcome.requeued == 0 && !outcome.kept.is_empty() {
                bail!("requeued nothing: the build of each of these dead letters has ended");
            }
            Ok(())
        }
        DeadLetterAction::Drop { which, yes } => {
            let chosen = admin.choose(&which.into()).await?;
            if chosen.count() > 0 {
                confirm_drop(&counted(chosen.count(), "dead letter"), yes)?;
            }
            let dropped = admin.drop_dead(&chosen).await?;
            if json {
                return print_json(&json!({"dropped": dropped}));
            }
            if chosen.count() == 0 {
                return crate::print("dropped nothing: no dead letter matches");
            }
            crate::print(&format!("dropped {}", counted(dropped, "dead letter")))
        }
    }
}

impl From<DeadLetterChoice> for DeadLetterFilter {
    fn from(
        DeadLetterChoice {
            ids,
            queue,
            reason,
            all,
        }: DeadLetterChoice,
    ) -> Self {
        Self {
            queue,
            ids,
            reason,
            all,
        }
    }
}

async fn list(
    admin: &Admin,
    queue: Option<&str>,
    reason: &str,
    limit: usize,
    json: bool,
) -> anyhow::Result<()> {
    // One more than is shown, to know whether there are more.
    let mut letters = admin.dead(queue, reason, limit.saturating_add(1)).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    if json {
        return letters.iter().try_for_each(print_json);
    }
    if letters.is_empty() {
        let text = if queue.is_none() && reason.is_empty() {
            "there are no dead letters"
        } else {
            "no dead letter matches"
        };
        return crate::print(text);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["ID", "QUEUE", "DIED ", "ATTEMPTS ", "REASON"]);
    for DeadLetterReport { queue, letter } in letters {
        table.row(vec![
            letter.id,
            queue.to_owned(),
            format!(
                "{} ago",
                span(now.duration_since(letter.died_at).unsigned_abs())
            ),
            letter.attempts.to_string(),
            letter.reason,
        ]);
    }
    if more {
        table.row(vec!["… there are more; raise --limit".to_owned()]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}
