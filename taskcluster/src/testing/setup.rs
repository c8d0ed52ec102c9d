//! skeleton

use std::{io, sync::Arc, time::Duration};

use bus::Clock;
use serde_json::{Map, Value};
use url::Url;

use crate::{Credentials, model::TaskState};

/// A running Taskcluster; it ends when this is dropped.
pub struct FakeTaskcluster {}

/// What happens to a call. It is not acted on, unless said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status and a page for people.
    Status(u16),
    /// The connection ends in the middle of the answer.
    Cut,
    /// Acted on, and the answer is lost: the client cannot know that it was acted on.
    CutAfter,
    /// Answered with 429, and how long to wait.
    TooManyRequests {
        /// What `Retry-After` says, in whole seconds; none leaves the header out.
        retry_after: Option<Duration>,
    },
}

/// A client of the auth service.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its access token.
    pub access_token: String,
    /// What it may do. A scope that ends in `*` stands for all that begin so.
    pub scopes: Vec<String>,
}

/// An artifact as a task's worker makes it.
#[derive(Debug, Clone)]
pub enum FakeArtifact {
    /// Kept in the fake's own store.
    S3(Vec<u8>),
    /// The same, as gzip.
    Gzip(Vec<u8>),
    /// Kept somewhere else.
    Reference(String),
    /// Another artifact of the same run.
    Link(String),
    /// An error in the place of a content.
    Error {
        /// Why.
        reason: String,
        /// In the worker's words.
        message: String,
    },
}

/// A hook that was triggered.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The hook's group.
    pub group: String,
    /// The hook.
    pub hook: String,
    /// What it was triggered with.
    pub payload: Value,
    /// The task that it made.
    pub task_id: Option<String>,
}

/// A mail that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whom it is for.
    pub address: String,
    /// Its subject.
    pub subject: String,
    /// Its Markdown.
    pub content: String,
    /// `simple` or `fullscreen`.
    pub template: String,
}

impl FakeTaskcluster {
    /// Serves a deployment without tasks on a free port of this machine.
    pub async fn start(_clock: Arc<dyn Clock>) -> io::Result<Self> {
        unimplemented!()
    }

    /// Its address.
    pub fn root(&self) -> &Url {
        unimplemented!()
    }

    /// Credentials that may do everything.
    pub fn credentials(&self) -> Credentials {
        unimplemented!()
    }

    /// Adds a client, or replaces it.
    pub fn add_client(&self, _client: Client) {}

    /// Adds a hook: what is triggered makes a task from `task`, a definition without its dates, or none. `schema` is
    /// what payloads have to fit.
    pub fn add_hook(&self, _group: &str, _hook: &str, _task: Option<Value>) {}

    /// Every hook that was triggered, in order.
    pub fn triggers(&self) -> Vec<Trigger> {
        unimplemented!()
    }

    /// Adds a task with these fields beside those that every task has; a task in no named group is its own group.
    /// Returns its id.
    pub fn add_task(&self, _fields: Value) -> String {
        unimplemented!()
    }

    /// The definition of a task.
    pub fn task(&self, _task_id: &str) -> Option<Map<String, Value>> {
        unimplemented!()
    }

    /// The ids of all tasks, in order of creation.
    pub fn task_ids(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Moves a task on to `state`, through all that lies between. An exception has the reason `worker-shutdown`.
    pub fn move_on(&self, _task_id: &str, _state: TaskState) {}

    /// Adds an artifact to the task's latest run.
    pub fn add_artifact(&self, _task_id: &str, _name: &str, _artifact: FakeArtifact) {}

    /// Puts a task into the index.
    pub fn index(&self, _namespace: &str, _task_id: &str) {}

    /// Adds a secret.
    pub fn add_secret(&self, _name: &str, _secret: Value) {}

    /// The mails that were sent, in order, without those that were discarded.
    pub fn mails(&self) -> Vec<Mail> {
        unimplemented!()
    }

    /// No mail goes to this address any more.
    pub fn denylist(&self, _address: &str) {}

    /// The next `times` calls of `method` (such as `queue.task`, or `*` for all) end in `fault`.
    pub fn fail_next(&self, _method: &str, _times: usize, _fault: &Fault) {}

    /// Every call of `method` ends in `fault`, until [`FakeTaskcluster::mend`].
    pub fn fail_until_mended(&self, _method: &str, _fault: &Fault) {}

    /// Nothing more goes wrong.
    pub fn mend(&self) {}

    /// Goes down, keeping all that it knows: connections are refused from now on.
    pub async fn go_down(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// Comes up again, at the same address.
    pub fn come_up(&self) -> io::Result<()> {
        unimplemented!()
    }

    /// The calls that were received until now, such as `queue.task`, those that went wrong included.
    pub fn calls(&self) -> Vec<String> {
        unimplemented!()
    }
}
