//! The REST client: one call, its signature, its retries, and its errors.
//!
//! Each service has its file with the calls that this project makes.

mod answer;
mod artifact;
mod credentials;
mod error;
mod hawk;
mod hooks;
mod index;
mod notify;
mod queue;
mod secrets;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use bus::Clock;
use reqwest::Method;
use serde_json::Value;
use url::Url;

pub use artifact::Artifact;
pub use credentials::Credentials;
pub use error::TaskclusterError;
pub use index::IndexedTask;
pub use notify::{Email, EmailTemplate, Mailed};
pub use queue::{GroupPage, GroupTask};

/// One Taskcluster deployment, and perhaps the right to call it.
#[derive(Clone)]
pub struct Taskcluster {
    root: Url,
    credentials: Option<Credentials>,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    /// Whether the credentials were refused when they were last used.
    refused: Arc<AtomicBool>,
}

/// A call before it is signed.
struct Call<'a> {
    /// Service and method as Taskcluster's manual names them, such as `queue.task`: for errors.
    name: &'static str,
    method: Method,
    service: &'static str,
    /// The path within version 1 of the service, a segment each, not encoded.
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
    body: Option<&'a Value>,
}

impl fmt::Debug for Taskcluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taskcluster").field("host", &self.root.host_str()).finish_non_exhaustive()
    }
}

impl Taskcluster {
    /// A client of the deployment at `root`, such as `https://firefox-ci-tc.services.mozilla.com`.
    ///
    /// Without `credentials` only what is open to all can be called; or `root` is a Taskcluster proxy
    /// (`TASKCLUSTER_PROXY_URL`), which signs what passes through it.
    ///
    /// `http` must not follow redirects: they are followed here, where they are safe.
    pub fn new(root: Url, credentials: Option<Credentials>, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { root, credentials, http, clock, refused: Arc::default() }
    }

    /// The deployment's address.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Checks that the deployment answers and accepts the credentials. What they may do is not asked.
    pub async fn ping(&self) -> Result<(), TaskclusterError> {
        let call = Call {
            name: "auth.currentScopes",
            method: Method::GET,
            service: "auth",
            path: &["scopes", "current"],
            query: &[],
            body: None,
        };
        match self.call(&call).await {
            // Who may not even ask for his scopes is known to the service nevertheless.
            Ok(_) | Err(TaskclusterError::Scopes { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, _call: &Call<'_>) -> Result<answer::Answer, TaskclusterError> {
        unimplemented!()
    }
}
