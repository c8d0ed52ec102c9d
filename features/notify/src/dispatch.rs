//! From a message of Pulse to one notification for each (channel, identity) in the task's section.

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
    notification::MAX_MESSAGE,
    placeholders::fill,
    task_limits::{self, ArtifactRank, MAX_ARTIFACTS, MAX_IDENTIFIED, MAX_RECIPIENTS},
    task_section::NotificationSection,
    templates::{MESSAGE, SUBJECT},
    text::{bounded, one_line},
};

/// The longest task name, in bytes; the rest is cut.
const MAX_NAME: usize = 300;
/// The most build properties, and the longest of their texts in bytes; the rest is cut.
const MAX_PROPS: (usize, usize) = (50, 200);
/// The artifact with a run's log, while the task runs and afterwards.
const LOG: &str = "public/logs/live_backing.log";

/// The notifications that a message of Pulse leads to.
#[derive(Debug, Default)]
pub struct Plan {
    /// The task's id.
    pub task: String,
    /// One for each channel and identity.
    pub notifications: Vec<Notification>,
    /// The requests of the task that are ignored.
    pub omissions: Vec<Omission>,
}

/// A request of a task that is ignored, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Omission {
    /// The section cannot be read.
    #[error("ignoring task: its notification section is malformed: {problem}")]
    Malformed {
        /// The fault.
        problem: String,
    },
    /// The section names an unknown identity.
    #[error("ignoring identity {id}: it is not in the identities file")]
    UnknownIdentity {
        /// Its name in the section.
        id: String,
    },
    /// The section names a channel that is unknown, or not enabled.
    #[error("ignoring channel {channel}: it is not enabled here")]
    Closed {
        /// Its name in the section.
        channel: String,
    },
    /// The section names more recipients than a task may have.
    #[error("ignoring {count} recipients on {channel}: the task names too many")]
    TooMany {
        /// The channel.
        channel: String,
        /// The number of ignored recipients.
        count: usize,
    },
    /// Taskcluster no longer has the task.
    #[error("ignoring task: taskcluster no longer has it")]
    Gone,
}

impl Omission {
    /// Whether the task's definition needs a correction.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Malformed { .. })
    }

    /// The number of recipients that are left out: an unknown identity counts as one, and a task that is ignored as none.
    pub fn recipients(&self) -> usize {
        match self {
            Self::UnknownIdentity { .. } => 1,
            Self::TooMany { count, .. } => *count,
            Self::Malformed { .. } | Self::Closed { .. } | Self::Gone => 0,
        }
    }

    /// Whether it is logged as a warning. Tasks also name channels of other deployments, which concern no operator here.
    fn is_warning(&self) -> bool {
        !matches!(self, Self::Closed { .. } | Self::Gone)
    }
}

impl Plan {
    fn log(&self) {
        let task = &self.task;
        for omission in &self.omissions {
            if omission.is_warning() {
                warn!(task, "{omission}");
            } else {
                debug!(task, "{omission}");
            }
        }
    }
}

/// Handles messages of Pulse about tasks.
///
/// It fetches the definition for each message: only that names the recipients.
pub struct Dispatcher {
    taskcluster: Taskcluster,
    root: Url,
    channels: Arc<Channels>,
    identities: Identities,
    templates: Arc<Templates>,
    notifications: Queue<Notification>,
}

impl Dispatcher {
    /// Fetches definitions from `taskcluster`, and sends to `notifications`. Links lead to the deployment at `root`, the
    /// address that people use.
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

    /// The notifications that a message of Pulse leads to, without sending or logging anything.
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
                plan.omissions.push(Omission::Gone);
                return Ok(plan);
            }
            Err(source) => {
                return Err(DispatchError::Task {
                    task: event.task_id,
                    source,
                });
            }
        };
        let section = match NotificationSection::of_task(&definition.extra, event.status) {
            Ok(Some(section)) => section,
            Ok(None) => return Ok(plan),
            Err(malformed) => {
                plan.omissions.push(Omission::Malformed {
                    problem: malformed.to_string(),
                });
                return Ok(plan);
            }
        };
        let mut named = BTreeMap::new();
        for (identity, fields) in self.identified(&section, &mut plan.omissions) {
            for name in fields.plugins() {
                let Some(channel) = self.channels.get(name) else {
                    let omission = Omission::Closed {
                        channel: one_line(name, 60),
                    };
                    if !plan.omissions.contains(&omission) {
                        plan.omissions.push(omission);
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
                    plan.omissions.push(Omission::TooMany {
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

    /// The section itself, and its overlay with each identity that it names.
    fn identified<'a>(
        &self,
        section: &'a NotificationSection,
        omissions: &mut Vec<Omission>,
    ) -> Vec<(Option<&'a str>, NotificationSection)> {
        let mut identified = vec![(None, section.clone())];
        for id in section.ids() {
            match self.identities.get(id) {
                Some(fields) => identified.push((Some(id), fields.over(section))),
                None => omissions.push(Omission::UnknownIdentity {
                    id: one_line(id, 60),
                }),
            }
        }
        identified
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a notification is made of all these"
    )]
    fn notification(
        &self,
        channel: &str,
        identity: Option<&str>,
        fields: &NotificationSection,
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
    // Only an address without a path, such as `mailto:`, has no segments; no HTTP address is one.
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
            match task_limits::rank_artifact(cx, &task.id, task.run_id, artifact).await? {
                ArtifactRank::Within => {}
                ArtifactRank::Last => {
                    let words = format!(
                        "(The task created {MAX_ARTIFACTS} artifacts: later ones are not notified.)"
                    );
                    plan.notifications
                        .iter_mut()
                        .for_each(|one| one.note(&words));
                }
                ArtifactRank::FirstOver => {
                    warn!(
                        task = task.id,
                        most = MAX_ARTIFACTS,
                        "ignoring this artifact and later ones: the task created too many"
                    );
                    return Ok(Outcome::Done);
                }
                ArtifactRank::Over => return Ok(Outcome::Done),
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
