//! `events notify`, where it does not go on: a look at what would be sent, one task again, who is muted.

use std::{pin::pin, sync::Arc};

use anyhow::{Context as _, bail};
use bus::RedisBus;
use futures::{StreamExt, stream::select_all};
use jiff::Timestamp;
use notify::{Notification, Plan, Remark, Status};
use pulse::PulseMessage;
use runtime::{Clock, SystemClock, error_chain};
use serde_json::json;

use super::{
    print_json,
    table::{Table, span},
};
use crate::{
    cli::{Notify, NotifyAction, Output},
    environment,
    features::Notifier,
    source,
};

/// Why nothing is sent where nobody is named.
const NOBODY: &str = "the task names no recipient on this channel";

/// Runs `events notify` with `muted`, `--dry-run` or `--task`.
pub async fn notify(options: Notify) -> anyhow::Result<()> {
    if let Some(NotifyAction::Muted { unmute }) = &options.action {
        if options.dry_run || options.task.is_some() {
            bail!("muted takes neither --dry-run nor --task");
        }
        return match unmute.as_slice() {
            [channel, recipient] => lift(&options, channel, recipient).await,
            _ => muted(&options).await,
        };
    }
    let (config, faults) = source::notifier((&options.deployment).into()).await?;
    faults
        .warnings
        .iter()
        .for_each(|warning| complain(&format!("configuration: {warning}")));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let notifier =
        Notifier::open(config, &environment::variable, &clock)?.ok_or_else(Notifier::nothing)?;
    let output = options.deployment.output;
    match options.task.zip(options.status) {
        Some((task, status)) => {
            replay(
                &notifier,
                &task,
                status,
                options.artifact,
                options.dry_run,
                output,
            )
            .await
        }
        None => watch(&notifier, output).await,
    }
}

/// Prints what would be sent for each message, for as long as messages come.
async fn watch(notifier: &Notifier, output: Output) -> anyhow::Result<()> {
    let pulse = notifier.pulse.as_ref();
    let pulse = pulse.context(
        "a look at Pulse needs our user: set pulse_user or PULSE_LOGIN, or name a --task",
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
                remark(&plan);
                if !plan.notifications.is_empty() {
                    show(notifier, &plan, output)?;
                }
            }
            // The others are worth a look all the same.
            Err(error) => complain(&notify::text::one_line(&error_chain(&error), 1000)),
        }
    }
    Ok(())
}

/// Does as if this happened to a task now. Nothing of it is kept: it is sent again however often it is asked for, and
/// does not keep the truth from being sent.
async fn replay(
    notifier: &Notifier,
    task: &str,
    status: Status,
    artifact: Option<String>,
    dry_run: bool,
    output: Output,
) -> anyhow::Result<()> {
    let message: PulseMessage =
        notify::replayed(&notifier.taskcluster, task, status, artifact.as_deref()).await?;
    let plan = notifier
        .dispatcher()
        .plan(&message, SystemClock.now())
        .await?;
    remark(&plan);
    let is_faulty = plan.remarks.iter().any(Remark::is_fault);
    if dry_run || plan.notifications.is_empty() {
        show(notifier, &plan, output)?;
        if is_faulty {
            bail!("correct the definition of task {task}");
        }
        return Ok(());
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
                    "channel": channel, "identity": identity, "recipient": null, "sent": false, "error": NOBODY,
                }))?,
                false => crate::print(&format!("{channel}: {NOBODY}"))?,
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
                    1000,
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
    Ok(())
}

/// Says what a notifier would log.
fn remark(plan: &Plan) {
    plan.remarks
        .iter()
        .for_each(|remark| complain(&format!("task {}: {remark}", plan.task)));
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

/// The bus of the deployment, which knows who is left alone.
async fn deployed(options: &Notify) -> anyhow::Result<RedisBus> {
    let (config, _) = source::notifier((&options.deployment).into()).await?;
    let Some(redis) = environment::redis(config.redis_namespace, 1)? else {
        bail!(
            "no REDIS_URL: who is muted is known to the process that runs, or to the redis of the deployment"
        );
    };
    Ok(RedisBus::new(&redis, &SystemClock)?)
}

/// Lets a recipient be sent to again.
async fn lift(options: &Notify, channel: &str, recipient: &str) -> anyhow::Result<()> {
    let bus = deployed(options).await?;
    if !notify::unmute(&bus, channel, recipient, SystemClock.now()).await? {
        bail!(
            "{recipient} is not muted on {channel}: events notify muted lists who is, as they are to be named"
        );
    }
    crate::print(&notify::text::one_line(
        &format!("{recipient} is sent to again on {channel}"),
        1000,
    ))
}

/// Lists who is left alone.
async fn muted(options: &Notify) -> anyhow::Result<()> {
    let bus = deployed(options).await?;
    let now: Timestamp = SystemClock.now();
    let muted = notify::muted(&bus, now).await?;
    if options.deployment.output.json {
        return muted.iter().try_for_each(print_json);
    }
    if muted.is_empty() {
        return crate::print("nobody is muted");
    }
    let mut table = Table::new(&["CHANNEL", "RECIPIENT", "SINCE ", "WHY"]);
    for one in muted {
        let since = format!("{} ago", span(now.duration_since(one.since).unsigned_abs()));
        table.row(vec![one.channel, one.recipient, since, one.problem]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

#[expect(
    clippy::print_stderr,
    reason = "what goes wrong is not what was asked for"
)]
fn complain(problem: &str) {
    eprintln!("events: {problem}");
}
