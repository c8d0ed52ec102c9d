//! A notification: one for each channel and identity.

use std::{collections::BTreeMap, fmt};

use bus::Message;
use jiff::Timestamp;
use pulse::PulseMessage;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    task_limits::{self, MAX_RECIPIENTS},
    text::{bounded, one_line, plain},
};

/// The longest subject, in bytes.
pub(crate) const MAX_SUBJECT: usize = 500;
/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: usize = 20_000;
/// The longest name of a recipient, in bytes.
pub(crate) const MAX_RECIPIENT: usize = 254;

/// A change of a task, named after its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The task was created.
    TaskDefined,
    /// A run waits for a worker.
    TaskPending,
    /// A worker started a run.
    TaskRunning,
    /// A run created an artifact.
    ArtifactCreated,
    /// The task succeeded.
    TaskCompleted,
    /// The task failed.
    TaskFailed,
    /// The task was cancelled, lost its worker, or missed its deadline.
    TaskException,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::TaskDefined,
        Self::TaskPending,
        Self::TaskRunning,
        Self::ArtifactCreated,
        Self::TaskCompleted,
        Self::TaskFailed,
        Self::TaskException,
    ];

    /// The name in exchanges and in sections of tasks, such as `task-failed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskDefined => "task-defined",
            Self::TaskPending => "task-pending",
            Self::TaskRunning => "task-running",
            Self::ArtifactCreated => "artifact-created",
            Self::TaskCompleted => "task-completed",
            Self::TaskFailed => "task-failed",
            Self::TaskException => "task-exception",
        }
    }

    /// The status with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The status of an exchange such as `exchange/taskcluster-queue/v1/task-failed`.
    pub fn of_exchange(exchange: &str) -> Option<Self> {
        Self::named(exchange.strip_prefix(EXCHANGES)?)
    }

    /// The exchange with the messages of this status.
    pub fn exchange(self) -> String {
        format!("{EXCHANGES}{}", self.name())
    }
}

/// The prefix of the exchanges of Taskcluster's queue.
const EXCHANGES: &str = "exchange/taskcluster-queue/v1/";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The task that a notification is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedTask {
    /// Its id.
    pub id: String,
    /// Its name. Foreign text, like all texts of a task.
    pub name: String,
    /// Its group's id.
    pub group_id: String,
    /// The run of the message, if it has one.
    pub run_id: Option<u32>,
    /// All runs in the message, in their order.
    pub runs: Vec<u32>,
    /// The texts and numbers of the definition's `extra.build_props`: `branch`, `product`, `version`, `build_number`,
    /// `platform`, …
    pub build_props: BTreeMap<String, String>,
}

/// Links to the task and its logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The task, for people.
    pub task: Url,
    /// The log of each run that has one.
    pub logs: Vec<LogLink>,
}

/// A link to the log of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLink {
    /// The run.
    pub run_id: u32,
    /// The log's address at the queue, which redirects to the content and needs no credentials.
    pub url: Url,
}

/// The recipients in a section; each channel uses its own kinds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipients {
    /// Mail addresses.
    #[serde(default)]
    pub emails: Vec<String>,
    /// Nicks on IRC.
    #[serde(default)]
    pub nicks: Vec<String>,
    /// Channels on IRC, with or without `#`, and rooms on Matrix.
    #[serde(default)]
    pub channels: Vec<String>,
}

/// A notification: first one for each (channel, identity) of a section, then one for each recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The channel that sends it.
    pub channel: String,
    /// The identity that it is for; `None` for the section itself.
    pub identity: Option<String>,
    /// One of [`crate::Channel::recipients`]; `None` before the split.
    #[serde(default)]
    pub recipient: Option<String>,
    /// The number of recipients that already have a notification of their own.
    #[serde(default)]
    pub next: usize,
    /// The change.
    pub status: Status,
    /// The task that changed.
    pub task: NotifiedTask,
    /// The name of the artifact that was created.
    pub artifact: Option<String>,
    /// One line, from the section or from a template.
    pub subject: String,
    /// The text, from the section or from a template.
    pub message: String,
    /// Links to the task and its logs.
    pub links: Links,
    /// The recipients in the section.
    pub to: Recipients,
    /// The original message of Pulse.
    pub pulse: PulseMessage,
    /// The time of the dispatch.
    pub created_at: Timestamp,
    /// The lines of a digest, otherwise empty. In a digest, `subject` and `message` are about all lines, and the other
    /// fields about the first.
    #[serde(default)]
    pub digest: Vec<DigestLine>,
}

/// A notification within a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestLine {
    /// The change.
    pub status: Status,
    /// Its subject.
    pub subject: String,
    /// The address of its task, for people.
    pub link: Url,
}

impl Message for Notification {
    const VERSION: u16 = 1;

    fn describe(&self, span: &tracing::Span) {
        span.record("task", tracing::field::display(&self.task.id));
    }
}

impl Notification {
    /// The deduplication key: the same for the same task, run, status (and artifact) and channel, whatever the identity. On
    /// one line; the name of an artifact in it is foreign text.
    pub fn key(&self) -> String {
        let run = self
            .task
            .run_id
            .map_or_else(|| "-".to_owned(), |run| run.to_string());
        let mut key = format!("{}/{run}/{}/{}", self.task.id, self.status, self.channel);
        if let Some(artifact) = &self.artifact {
            key.push('/');
            key.push_str(artifact);
        }
        if !self.digest.is_empty() {
            key.push_str("/digest");
        }
        key
    }

    /// The partition in its queue: one for each task and channel, shared with other tasks.
    pub fn partition(&self) -> String {
        task_limits::partition(&self.channel, &self.task.id)
    }

    /// Appends a paragraph.
    pub(crate) fn note(&mut self, words: &str) {
        let text = bounded(self.message.trim_end(), MAX_MESSAGE - words.len() - 2);
        self.message = format!("{text}\n\n{words}");
    }

    /// Sanitizes subject and message, cuts them at their limits, and removes recipients whose names are not plain text on
    /// one line. Returns the number of recipients beyond [`MAX_RECIPIENTS`] of a kind, which it removes too.
    pub(crate) fn bound(&mut self) -> usize {
        self.subject = one_line(&self.subject, MAX_SUBJECT);
        self.message = bounded(&plain(&self.message), MAX_MESSAGE);
        let mut over = 0;
        for names in [
            &mut self.to.emails,
            &mut self.to.nicks,
            &mut self.to.channels,
        ] {
            names.retain(|name| !name.is_empty() && *name == one_line(name, MAX_RECIPIENT));
            over += names.len().saturating_sub(MAX_RECIPIENTS);
            names.truncate(MAX_RECIPIENTS);
        }
        over
    }
}
