//! A notification: one for each channel and identity.

use std::{collections::BTreeMap, fmt};

use bus::Message;
use jiff::Timestamp;
use pulse::PulseMessage;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    share::{self, MAX_RECIPIENTS},
    text::{bounded, one_line, plain},
};

/// The longest subject, in bytes.
pub(crate) const MAX_SUBJECT: usize = 500;
/// The longest message, in bytes.
pub(crate) const MAX_MESSAGE: usize = 20_000;
/// The longest name of a recipient, in bytes.
pub(crate) const MAX_RECIPIENT: usize = 254;

/// What happened to a task, by the name of the exchange that told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was created.
    TaskDefined,
    /// It waits for a worker.
    TaskPending,
    /// A worker has it.
    TaskRunning,
    /// It made an artifact.
    ArtifactCreated,
    /// It ended well.
    TaskCompleted,
    /// It ended badly.
    TaskFailed,
    /// It did not end by itself.
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

    /// As the exchange and a task's section are called, such as `task-failed`.
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

    /// By its name, if there is one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The status that an exchange such as `exchange/taskcluster-queue/v1/task-failed` tells of.
    pub fn of_exchange(exchange: &str) -> Option<Self> {
        Self::named(exchange.strip_prefix(EXCHANGES)?)
    }

    /// The exchange that tells of it.
    pub fn exchange(self) -> String {
        format!("{EXCHANGES}{}", self.name())
    }
}

/// What the names of the queue's exchanges begin with.
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
    /// Its name, as its maker chose it: hostile like every text of a task.
    pub name: String,
    /// Its group's id.
    pub group_id: String,
    /// The run that the message is about, where it is about one.
    pub run_id: Option<u32>,
    /// All runs that the message tells of, the first one first.
    pub runs: Vec<u32>,
    /// The texts and numbers of the definition's `extra.build_props`: `branch`, `product`, `version`, `build_number`,
    /// `platform`, …
    pub build_props: BTreeMap<String, String>,
}

/// Where more is to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The task, for people.
    pub task: Url,
    /// The log of each run that has one.
    pub logs: Vec<LogLink>,
}

/// Where the log of a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLink {
    /// The run.
    pub run_id: u32,
    /// Its log, through the queue: it redirects to the content, and needs no credentials.
    pub url: Url,
}

/// The recipients that the section names; each channel reads those that are meant for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipients {
    /// Mail addresses.
    #[serde(default)]
    pub emails: Vec<String>,
    /// Nicks on IRC.
    #[serde(default)]
    pub nicks: Vec<String>,
    /// Channels on IRC, with or without `#`; rooms of what else has rooms.
    #[serde(default)]
    pub channels: Vec<String>,
}

/// What is sent: one for each (channel, identity) of a task's section, and from there on one for each recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Which channel sends it.
    pub channel: String,
    /// Which name of the identities file it is for; none: the section itself.
    pub identity: Option<String>,
    /// The recipient, one of [`crate::Channel::recipients`]; none before that was called.
    #[serde(default)]
    pub recipient: Option<String>,
    /// How many of its recipients have a notification of their own by now.
    #[serde(default)]
    pub next: usize,
    /// What happened.
    pub status: Status,
    /// To which task.
    pub task: NotifiedTask,
    /// The artifact's name, where one was created.
    pub artifact: Option<String>,
    /// One line; written by the task's maker, or ours.
    pub subject: String,
    /// The text; written by the task's maker, or ours.
    pub message: String,
    /// Where more is to be seen.
    pub links: Links,
    /// The recipients that the section names.
    pub to: Recipients,
    /// The message of Pulse that began it, as it came.
    pub pulse: PulseMessage,
    /// When it was made.
    pub created_at: Timestamp,
    /// For a digest: what it lists. Then `subject` and `message` speak of all of these, and the rest of the first.
    #[serde(default)]
    pub digest: Vec<DigestLine>,
}

/// A notification within a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestLine {
    /// What happened.
    pub status: Status,
    /// Its subject.
    pub subject: String,
    /// Its task, for people.
    pub link: Url,
}

impl Message for Notification {
    const VERSION: u16 = 1;

    fn describe(&self, span: &tracing::Span) {
        span.record("task", tracing::field::display(&self.task.id));
    }
}

impl Notification {
    /// What this notification is, for one who may meet it again: the same for the same task, run, status (and artifact)
    /// and channel, whoever asked for it. On one line; the name of an artifact in it may hold any letters.
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

    /// The partition of the queue that it is in: a task has one on each channel, and shares it with some others.
    pub fn partition(&self) -> String {
        share::partition(&self.channel, &self.task.id)
    }

    /// Adds a paragraph of ours.
    pub(crate) fn note(&mut self, words: &str) {
        let text = bounded(self.message.trim_end(), MAX_MESSAGE - words.len() - 2);
        self.message = format!("{text}\n\n{words}");
    }

    /// Cuts what is longer than it may be, and takes out what could be more than a text where it goes: line ends of a
    /// subject, control characters, names of recipients that hold either. Gives how many recipients were too many.
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
