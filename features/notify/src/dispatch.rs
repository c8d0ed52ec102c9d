//! From a message of Pulse to one notification for each (channel, identity) that the task asks for.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use jiff::Timestamp;
use pulse::PulseMessage;
use serde_json::Value;
use taskcluster::{Taskcluster, TaskclusterError, model::TaskDefinition};
use thiserror::Error;
use tracing::{debug, warn};
use url::Url;

use crate::{
    Channels, DispatchError, Identities, Links, LogLink, Notification, NotifiedTask, Templates,
    event::Event,
    fields::fill,
    notification::MAX_MESSAGE,
    section::Fields,
    share::{self, MAX_ARTIFACTS, MAX_IDENTIFIED, MAX_RECIPIENTS, Place},
    templates::{MESSAGE, SUBJECT},
    text::{bounded, one_line},
};

/// The longest name of a task that is kept, in bytes.
const MAX_NAME: usize = 300;
/// The most build properties that are kept, and the longest of their texts, in bytes.
const MAX_PROPS: (usize, usize) = (50, 200);
/// Where a worker writes its log while the task runs and after.
const LOG: &str = "public/logs/live_backing.log";

/// What a message of Pulse leads to.
#[derive(Debug, Default)]
pub struct Plan {
    /// The task.
    pub task: String,
    /// One for each channel and identity.
    pub notifications: Vec<Notification>,
    /// What there is to say of it.
    pub remarks: Vec<Remark>,
}

/// The reason for not sending a notification that the task seems to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Remark {
    /// The section is none.
    #[error("nobody is notified, the task asks for it wrongly: {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// It names an identity that there is not.
    #[error("the task asks to notify {id}, who is not among the identities: left out")]
    NoIdentity {
        /// Who.
        id: String,
    },
    /// It names a channel that there is not here.
    #[error("the task asks for the channel {channel}, which is not open here: left out")]
    Closed {
        /// Which.
        channel: String,
    },
    /// It names too many.
    #[error("the task names {count} recipients too many on {channel}: left out")]
    TooMany {
        /// On which channel.
        channel: String,
        /// How many are left out.
        count: usize,
    },
    /// Taskcluster does not know the task any more.
    #[error("nobody is notified, taskcluster does not know the task any more")]
    Gone,
}

impl Remark {
    /// Whether the task asks for something that can be nothing.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }

    /// Whether operators are to know, who have no part in what tasks ask for elsewhere.
    fn is_of_interest(&self) -> bool {
        !matches!(self, Self::Closed { .. } | Self::Gone)
    }
}

impl Plan {
    fn log(&self) {
        let task = &self.task;
        for remark in &self.remarks {
            if remark.is_of_interest() {
                warn!(task, "{remark}");
            } else {
                debug!(task, "{remark}");
            }
        }
    }
}

/// Handles messages of Pulse about tasks.
///
/// The definition is fetched for each message: a task says itself whether anybody is to know.
pub struct Dispatcher {
    taskcluster: Taskcluster,
    root: Url,
    channels: Arc<Channels>,
    identities: Identities,
    templates: Arc<Templates>,
    notifications: Queue<Notification>,
}

impl Dispatcher {
    /// Asks `taskcluster` for the tasks, sends to `notifications` for those of `channels` that a task asks for. Links lead
    /// to the deployment at `root`, as people reach it.
    pub fn new(
        taskcluster: Taskcluster,
        root: Url,
        channels: Arc<Channels>,
        identities: Identities,
        templates: Arc<Templates>,
        notifications: Queue<Notification>,
    ) -> Self {
        Self {
            taskcluster,
            root,
            channels,
            identities,
            templates,
            notifications,
        }
    }

    /// What a message of Pulse leads to: one notification for each channel and identity. Nothing is sent, and nothing
    /// logged.
    pub async fn plan(
        &self,
        message: &PulseMessage,
        now: Timestamp,
    ) -> Result<Plan, DispatchError> {
        let event = Event::read(message)?;
        let mut plan = Plan {
            task: event.task_id.clone(),
            ..Plan::default()
        };
        let definition = match self.taskcluster.task(&event.task_id).await {
            Ok(definition) => definition,
            Err(TaskclusterError::NotFound { .. }) => {
                plan.remarks.push(Remark::Gone);
                return Ok(plan);
            }
            Err(source) => {
                return Err(DispatchError::Task {
                    task: event.task_id,
                    source,
                });
            }
        };
        let section = match Fields::of_task(&definition.extra, event.status) {
            Ok(Some(section)) => section,
            Ok(None) => return Ok(plan),
            Err(malformed) => {
                plan.remarks.push(Remark::Malformed {
                    problem: malformed.to_string(),
                });
                return Ok(plan);
            }
        };
        let mut named = BTreeMap::new();
        for (identity, fields) in self.identified(&section, &mut plan.remarks) {
            for name in fields.plugins() {
                let Some(channel) = self.channels.get(name) else {
                    let remark = Remark::Closed {
                        channel: one_line(name, 60),
                    };
                    if !plan.remarks.contains(&remark) {
                        plan.remarks.push(remark);
                    }
                    continue;
                };
                let mut one =
                    self.notification(name, identity, &fields, &event, &definition, message, now)?;
                let mut left_out = one.bound();
                let count = channel.recipients(&one).len();
                let total = named.entry(channel.name()).or_insert(0_usize);
                let is_over = *total + count > MAX_IDENTIFIED && identity.is_some();
                left_out += if is_over { count } else { 0 };
                if left_out > 0 {
                    plan.remarks.push(Remark::TooMany {
                        channel: name.to_owned(),
                        count: left_out,
                    });
                }
                if is_over {
                    continue;
                }
                *total += count;
                if left_out > 0 {
                    one.note(&format!(
                        "({left_out} more recipients are not notified: the task names more than {MAX_RECIPIENTS} of a kind.)"
                    ));
                }
                plan.notifications.push(one);
            }
        }
        Ok(plan)
    }

    /// The section itself, and what comes of it for each identity that it names.
    fn identified<'a>(
        &self,
        section: &'a Fields,
        remarks: &mut Vec<Remark>,
    ) -> Vec<(Option<&'a str>, Fields)> {
        let mut identified = vec![(None, section.clone())];
        for id in section.ids() {
            match self.identities.get(id) {
                Some(fields) => identified.push((Some(id), fields.over(section))),
                None => remarks.push(Remark::NoIdentity {
                    id: one_line(id, 60),
                }),
            }
        }
        identified
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a notification is made of meets here"
    )]
    fn notification(
        &self,
        channel: &str,
        identity: Option<&str>,
        fields: &Fields,
        event: &Event,
        definition: &TaskDefinition,
        message: &PulseMessage,
        now: Timestamp,
    ) -> Result<Notification, DispatchError> {
        let mut notification = Notification {
            channel: channel.to_owned(),
            identity: identity.map(str::to_owned),
            recipient: None,
            next: 0,
            status: event.status,
            task: NotifiedTask {
                id: event.task_id.clone(),
                name: one_line(&definition.metadata.name, MAX_NAME),
                group_id: event.group_id.clone(),
                run_id: event.run_id,
                runs: event.runs.clone(),
                build_props: build_props(definition),
            },
            artifact: event.artifact.clone(),
            subject: String::new(),
            message: String::new(),
            links: self.links(event),
            to: fields.recipients(),
            pulse: message.clone(),
            created_at: now,
            digest: Vec::new(),
        };
        let written = |text: Option<&str>, template| match text {
            Some(text) => Ok(fill(&bounded(text, MAX_MESSAGE), &notification)),
            None => self.templates.text(template, &notification),
        };
        let (subject, text) = (
            written(fields.subject(), SUBJECT)?,
            written(fields.message(), MESSAGE)?,
        );
        (notification.subject, notification.message) = (subject, text);
        Ok(notification)
    }

    fn links(&self, event: &Event) -> Links {
        let log = |run_id: &u32| {
            let run = run_id.to_string();
            let path = [
                "api",
                "queue",
                "v1",
                "task",
                &event.task_id,
                "runs",
                &run,
                "artifacts",
            ];
            LogLink {
                run_id: *run_id,
                url: below(&self.root, path.into_iter().chain(LOG.split('/'))),
            }
        };
        Links {
            task: below(&self.root, ["tasks", &event.task_id]),
            logs: event.started.iter().map(log).collect(),
        }
    }
}

/// The address of `path` below `root`.
fn below<'a>(root: &Url, path: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = root.clone();
    // Only an address that can hold no path has no segments, and none of those is reached over HTTP.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

fn build_props(definition: &TaskDefinition) -> BTreeMap<String, String> {
    let props = definition
        .extra
        .get("build_props")
        .and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some((one_line(name, MAX_PROPS.1), one_line(&value, MAX_PROPS.1)))
    };
    props
        .into_iter()
        .flatten()
        .filter_map(text)
        .take(MAX_PROPS.0)
        .collect()
}

#[async_trait]
impl Handler<PulseMessage> for Dispatcher {
    type Error = DispatchError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, DispatchError> {
        let mut plan = self.plan(&message, cx.clock().now()).await?;
        plan.log();
        if let Some(Notification {
            task,
            artifact: Some(artifact),
            ..
        }) = plan.notifications.first()
        {
            match share::place(cx, &task.id, task.run_id, artifact).await? {
                Place::Free => {}
                Place::Last => {
                    let words = format!(
                        "(The task made {MAX_ARTIFACTS} artifacts by now: of further ones nobody is notified.)"
                    );
                    plan.notifications
                        .iter_mut()
                        .for_each(|one| one.note(&words));
                }
                Place::Over => {
                    warn!(
                        task = task.id,
                        most = MAX_ARTIFACTS,
                        "nobody is notified of this artifact, nor of further ones: the task makes too many"
                    );
                    return Ok(Outcome::Done);
                }
                Place::FarOver => return Ok(Outcome::Done),
            }
        }
        for notification in plan.notifications {
            let key = format!(
                "{} for {}",
                notification.key(),
                notification.identity.as_deref().unwrap_or_default()
            );
            cx.send_deduplicated(&self.notifications, &notification, &key)?;
        }
        Ok(Outcome::Done)
    }
}
