//! `events notify --dry-run`, `replay`, `muted` and `unmute`.

use std::{pin::pin, sync::Arc};

use anyhow::{Context as _, bail};
use bus::RedisBus;
use futures::{StreamExt, stream::select_all};
use jiff::Timestamp;
use notify::{Notification, Omission, Plan};
use pulse::PulseMessage;
use runtime::{Clock, SystemClock, error_chain};
use serde_json::json;

use super::{
    print_json,
    table::{Table, span},
};
use crate::{
    cli::{Deployment, Notify, NotifyAction, Output, Replay},
    environment,
    features::Notifier,
    source,
};

/// The result for a notification whose task names no recipient on the channel.
const NO_RECIPIENT: &str = "the task names no recipient on this channel";
/// The longest line of text that a task or a peer is quoted in, in characters.
const LINE: usize = 1000;

/// Runs `events notify` with `--dry-run` or an action.
pub async fn notify(options: Notify) -> anyhow::Result<()> {
    options.check().unwrap_or_else(|error| error.exit());
    let deployment = &options.deployment;
    match options.action {
        Some(NotifyAction::Muted) => muted(deployment).await,
        Some(NotifyAction::Unmute { channel, recipient }) => {
            unmute(deployment, &channel, &recipient).await
        }
        Some(NotifyAction::Replay(options)) => {
            replay(&notifier(deployment).await?, options, deployment.output).await
        }
        None => preview(&notifier(deployment).await?, deployment.output).await,
    }
}

/// The notifier of the deployment. The warnings of its configuration are printed.
async fn notifier(deployment: &Deployment) -> anyhow::Result<Notifier> {
    let (config, faults) = source::notifier(deployment.into()).await?;
    faults
        .warnings
        .iter()
        .for_each(|warning| warn(&format!("configuration: {warning}")));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Notifier::open(config, &environment::variable, &clock)?.ok_or_else(Notifier::nothing)
}

/// Prints the notifications of each message on Pulse, without end.
async fn preview(notifier: &Notifier, output: Output) -> anyhow::Result<()> {
    let pulse = notifier.pulse.as_ref();
    let pulse = pulse.context(
        "cannot read messages of pulse without our user: set pulse_user or PULSE_LOGIN, or preview one task with \
         `events notify replay --dry-run`",
    )?;
    let dispatcher = notifier.dispatcher();
    let mut exchanges = Vec::new();
    for route in notifier.routes()? {
        exchanges.push(Box::pin(
            pulse::tail(pulse, &route.exchange, &route.topics, &SystemClock).await?,
        ));
    }
    let mut messages = pin!(select_all(exchanges));
    while let Some(message) = messages.next().await {
        let message = message?;
        match dispatcher.plan(&message, SystemClock.now()).await {
            Ok(plan) => {
                print_omissions(&plan);
                if !plan.notifications.is_empty() {
                    show(notifier, &plan, output)?;
                }
            }
            // Go on: the other messages can still be previewed.
            Err(error) => warn(&notify::text::one_line(&error_chain(&error), LINE)),
        }
    }
    Ok(())
}

/// Sends the notifications of a task as if it had this status now. Nothing is recorded: a replay repeats what was sent
/// before, and suppresses nothing later.
async fn replay(notifier: &Notifier, options: Replay, output: Output) -> anyhow::Result<()> {
    let Replay {
        task,
        status,
        artifact,
        dry_run,
    } = options;
    let message: PulseMessage =
        notify::replayed(&notifier.taskcluster, &task, status, artifact.as_deref()).await?;
    let plan = notifier
        .dispatcher()
        .plan(&message, SystemClock.now())
        .await?;
    print_omissions(&plan);
    let ignored = ignored(&task, &plan);
    if dry_run || plan.notifications.is_empty() {
        show(notifier, &plan, output)?;
        return ignored;
    }
    let mut failed = 0;
    for notification in plan.notifications {
        let Some(channel) = notifier.channels.get(&notification.channel) else {
            continue;
        };
        let recipients = channel.recipients(&notification);
        if recipients.is_empty() {
            let (channel, identity) = (&notification.channel, &notification.identity);
            match output.json {
                true => print_json(&json!({
                    "channel": channel, "identity": identity, "recipient": null, "sent": false, "error": NO_RECIPIENT,
                }))?,
                false => crate::print(&format!("{channel}: {NO_RECIPIENT}"))?,
            }
        }
        for recipient in recipients {
            let one = Notification {
                recipient: Some(recipient.clone()),
                ..notification.clone()
            };
            let sent = channel.send(&one, &recipient).await;
            failed += usize::from(sent.is_err());
            let error = sent.err().map(|error| error_chain(&error));
            if output.json {
                print_json(&json!({
                    "channel": one.channel, "identity": one.identity, "recipient": recipient, "sent": error.is_none(),
                    "error": error,
                }))?;
            } else {
                let outcome =
                    error.map_or_else(|| "sent".to_owned(), |error| format!("FAILED: {error}"));
                crate::print(&notify::text::one_line(
                    &format!("{} to {recipient}: {outcome}", one.channel),
                    LINE,
                ))?;
            }
        }
    }
    for channel in notifier.channels.iter() {
        channel.close().await;
    }
    if failed > 0 {
        bail!(
            "{} could not be sent",
            super::counted(failed, "notification")
        );
    }
    ignored
}

/// The error of a plan that leaves out recipients that the task names. A channel that is not enabled here may belong to
/// another deployment, and is not an error.
fn ignored(task: &str, plan: &Plan) -> anyhow::Result<()> {
    if plan.omissions.iter().any(Omission::is_fault) {
        bail!("the definition of task {task} has faults; correct it");
    }
    if plan.omissions.contains(&Omission::Gone) {
        bail!("taskcluster no longer has task {task}");
    }
    let recipients: usize = plan.omissions.iter().map(Omission::recipients).sum();
    if recipients > 0 {
        bail!(
            "{} of task {task} {} ignored; see above",
            super::counted(recipients, "recipient"),
            if recipients == 1 { "was" } else { "were" }
        );
    }
    Ok(())
}

/// Prints the lines that a notifier would log.
fn print_omissions(plan: &Plan) {
    plan.omissions
        .iter()
        .for_each(|omission| warn(&format!("task {}: {omission}", plan.task)));
}

fn show(notifier: &Notifier, plan: &Plan, output: Output) -> anyhow::Result<()> {
    if !output.json {
        return crate::print(notify::preview(&notifier.channels, plan).trim_end());
    }
    plan.notifications.iter().try_for_each(|one| {
        let recipients = notifier.channels.get(&one.channel).map(|channel| channel.recipients(one));
        print_json(&json!({
            "channel": one.channel, "identity": one.identity, "recipients": recipients, "status": one.status,
            "task": one.task.id, "subject": one.subject, "message": one.message, "link": one.links.task,
        }))
    })
}

/// The bus of the deployment, which has the records of mutes.
async fn deployed(deployment: &Deployment) -> anyhow::Result<RedisBus> {
    let (config, _) = source::notifier(deployment.into()).await?;
    let Some(redis) = environment::redis(config.redis_namespace, 1)? else {
        bail!(
            "cannot find the muted recipients: REDIS_URL is not set, and a notifier without it keeps them in its own \
             memory; set REDIS_URL to the redis of the deployment"
        );
    };
    Ok(RedisBus::new(&redis, &SystemClock)?)
}

/// Sends to a recipient again.
async fn unmute(deployment: &Deployment, channel: &str, recipient: &str) -> anyhow::Result<()> {
    let bus = deployed(deployment).await?;
    if !notify::unmute(&bus, channel, recipient, SystemClock.now()).await? {
        bail!(
            "cannot unmute {recipient} on {channel}: it is not muted; list the muted recipients with `events notify muted`"
        );
    }
    crate::print(&notify::text::one_line(
        &format!("unmuted {recipient} on {channel}"),
        LINE,
    ))
}

/// Lists the muted recipients.
async fn muted(deployment: &Deployment) -> anyhow::Result<()> {
    let bus = deployed(deployment).await?;
    let now: Timestamp = SystemClock.now();
    let muted = notify::muted(&bus, now).await?;
    if deployment.output.json {
        return muted.iter().try_for_each(print_json);
    }
    if muted.is_empty() {
        return crate::print("no recipient is muted");
    }
    let mut table = Table::new(&["CHANNEL", "RECIPIENT", "SINCE ", "REASON"]);
    for one in muted {
        let since = format!("{} ago", span(now.duration_since(one.since).unsigned_abs()));
        table.row(vec![one.channel, one.recipient, since, one.problem]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

#[expect(clippy::print_stderr, reason = "warnings must not mix with the output")]
fn warn(problem: &str) {
    eprintln!("events: {problem}");
}
