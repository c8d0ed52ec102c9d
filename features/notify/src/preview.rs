//! A preview of notifications, as text for a terminal.

use std::fmt::Write;

use crate::{Channels, Notification, Plan, text::plain};

/// Describes the notifications of a plan by [`crate::Dispatcher::plan`]: the channel, the recipients and the texts of
/// each. It does not check whether a recipient is muted, or was sent the same before.
pub fn preview(channels: &Channels, plan: &Plan) -> String {
    if plan.notifications.is_empty() {
        let why = if plan.omissions.is_empty() {
            ": the task has no section for this status"
        } else {
            ""
        };
        return format!("nothing would be sent{why}\n");
    }
    let mut text = String::new();
    for notification in &plan.notifications {
        // Writing to a string cannot fail.
        let _ = describe(channels, notification, &mut text);
    }
    plain(&text)
}

fn describe(
    channels: &Channels,
    notification: &Notification,
    text: &mut String,
) -> std::fmt::Result {
    let identity = notification
        .identity
        .as_ref()
        .map(|identity| format!(" for {identity}"))
        .unwrap_or_default();
    writeln!(
        text,
        "{}{identity}: task {} is {}",
        notification.channel, notification.task.id, notification.status
    )?;
    let recipients = channels
        .get(&notification.channel)
        .map(|channel| channel.recipients(notification));
    match recipients.as_deref() {
        None | Some([]) => writeln!(text, "  to: no recipient on this channel")?,
        Some(recipients) => writeln!(text, "  to: {}", recipients.join(", "))?,
    }
    writeln!(text, "  subject: {}", notification.subject)?;
    for line in notification.message.lines() {
        writeln!(text, "  | {line}")?;
    }
    for log in &notification.links.logs {
        writeln!(text, "  log of run {}: {}", log.run_id, log.url)?;
    }
    text.push('\n');
    Ok(())
}
