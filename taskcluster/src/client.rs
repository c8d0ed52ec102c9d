//! The REST client: what a call is, its retries, and its errors.
//!
//! Each service has its file with the calls that this project makes.

mod artifact;
mod call;
mod credentials;
mod error;
mod hawk;
mod hooks;
mod index;
mod notify;
mod queue;
mod secrets;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use bus::Backoff;
use bytes::Bytes;
use http_client::PublicClient;
use reqwest::{
    Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use runtime::{Clock, error_chain};
use tracing::{error, info, warn};
use url::Url;

use call::{Answer, Call};

pub use artifact::{Artifact, ArtifactStream};
pub use credentials::Credentials;
pub use error::TaskclusterError;
pub use index::IndexedTask;
pub use notify::{Email, EmailTemplate, Mailed};
pub use queue::{GroupPage, GroupTask};

/// How often one call is tried while there is hope, the first try included.
const TRIES: u32 = 4;
/// The waits between the tries.
const WAITS: Backoff = Backoff {
    first: Duration::from_millis(500),
    factor: 2,
    cap: Duration::from_secs(8),
};
/// The longest `Retry-After` that a call waits for. For a longer one the call fails, and its message is deferred.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes: a page of a group holds 1,000 definitions of some 10 kB.
const MAX_ANSWER: usize = 64 << 20;
/// How many refusals for missing scopes are logged: one for each hook, say.
const MAX_MISSING: usize = 100;
/// The content type of every body, as it is sent and as it is signed.
const JSON: &str = "application/json";

/// One Taskcluster deployment, and perhaps the right to call it.
///
/// A call is tried again where its answer is 429 or 5xx, or is lost. So what it asks for may be done twice: that
/// matters to [`Taskcluster::trigger_hook`] only.
#[derive(Clone)]
pub struct Taskcluster {
    root: Url,
    credentials: Option<Credentials>,
    http: reqwest::Client,
    /// The deployment itself, whose own contents are fetched from anywhere; none where our address is a proxy's, and no
    /// other is known.
    own: Option<Url>,
    /// What fetches contents from elsewhere.
    elsewhere: Option<PublicClient>,
    clock: Arc<dyn Clock>,
    /// Whether the credentials were refused when they were last used.
    refused: Arc<AtomicBool>,
    /// Whether it did not answer when it was last asked.
    away: Arc<AtomicBool>,
    /// What was said of missing scopes.
    missing: Arc<Mutex<BTreeSet<String>>>,
}

impl fmt::Debug for Taskcluster {
    /// An address may hold a password, so only the host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taskcluster")
            .field("host", &self.root.host_str())
            .finish_non_exhaustive()
    }
}

impl Taskcluster {
    /// A client of the deployment at `root`, such as `https://firefox-ci-tc.services.mozilla.com`.
    ///
    /// Without `credentials` only what is open to all can be called.
    ///
    /// `http` must not follow redirects: they are followed here, where they are safe. Contents of artifacts come from the
    /// deployment alone until [`Taskcluster::fetching_elsewhere`].
    pub fn new(
        root: Url,
        credentials: Option<Credentials>,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let own = Some(root.clone());
        let (refused, away, missing) = (Arc::default(), Arc::default(), Arc::default());
        Self {
            root,
            credentials,
            http,
            own,
            elsewhere: None,
            clock,
            refused,
            away,
            missing,
        }
    }

    /// A client of the deployment at `public` through a Taskcluster proxy (`TASKCLUSTER_PROXY_URL`), which signs what
    /// passes through it.
    ///
    /// A content is never fetched from the proxy: it would sign with all our rights whatever a worker wants fetched.
    pub fn through_proxy(
        proxy: Url,
        public: Url,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let own = Some(public).filter(|public| public.origin() != proxy.origin());
        Self {
            own,
            ..Self::new(proxy, None, http, clock)
        }
    }

    /// The same, where `elsewhere` fetches the contents of artifacts that are not in the deployment itself.
    pub fn fetching_elsewhere(self, elsewhere: PublicClient) -> Self {
        Self {
            elsewhere: Some(elsewhere),
            ..self
        }
    }

    /// The deployment's address, or its proxy's.
    pub fn root(&self) -> &Url {
        &self.root
    }

    /// Checks that the deployment answers and accepts the credentials (`auth.currentScopes`). It does not check what
    /// they allow.
    pub async fn ping(&self) -> Result<(), TaskclusterError> {
        let call = Call::get("auth.currentScopes", &["scopes", "current"]);
        let url = call.url(&self.root)?;
        match self.retried(|| self.call_once(&call, &url, None)).await {
            // Whoever is refused this is known nevertheless.
            Ok(_) | Err(TaskclusterError::Scopes { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, TaskclusterError> {
        let url = call.url(&self.root)?;
        let body = call.body.map(|body| Bytes::from(body.to_string()));
        let result = self
            .retried(|| self.call_once(call, &url, body.clone()))
            .await;
        match &result {
            Err(TaskclusterError::Credentials { .. })
                if !self.refused.swap(true, Ordering::Relaxed) =>
            {
                error!(
                    host = self.root.host_str(),
                    "taskcluster does not accept the credentials: what needs it is deferred until they are valid again"
                )
            }
            Err(TaskclusterError::Scopes { call, message }) if self.is_news(message) => error!(
                host = self.root.host_str(),
                call,
                message,
                "taskcluster's client lacks scopes: what needs them is deferred until it has them"
            ),
            Err(error) if error.may_pass() && !self.away.swap(true, Ordering::Relaxed) => warn!(
                host = self.root.host_str(),
                error = error_chain(error),
                "taskcluster does not answer: what needs it waits until it does"
            ),
            Ok(_) => {
                if self.refused.swap(false, Ordering::Relaxed) {
                    info!(
                        host = self.root.host_str(),
                        "taskcluster accepts the credentials again"
                    );
                }
                if self.away.swap(false, Ordering::Relaxed) {
                    info!(host = self.root.host_str(), "taskcluster answers again");
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Whether this was not said of missing scopes yet.
    fn is_news(&self, message: &str) -> bool {
        let mut missing = self.missing.lock();
        missing.len() < MAX_MISSING && missing.insert(message.to_owned())
    }

    /// Tries until there is an answer, or no hope for one within the time that a call may take.
    async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, TaskclusterError>
    where
        F: Future<Output = Result<T, TaskclusterError>>,
    {
        for number in 1..TRIES {
            let wait = match attempt().await {
                Err(TaskclusterError::Busy {
                    retry_after: Some(wait),
                    ..
                }) if wait <= LONGEST_WAIT => wait,
                Err(error) if error.may_pass() => Duration::ZERO,
                settled => return settled,
            };
            self.clock
                .sleep(wait.max(WAITS.after(number, self.clock.as_ref())))
                .await;
        }
        attempt().await
    }

    async fn call_once(
        &self,
        call: &Call<'_>,
        url: &Url,
        body: Option<Bytes>,
    ) -> Result<Answer, TaskclusterError> {
        let mut request = self.http.request(call.method.clone(), url.clone());
        if let Some(credentials) = &self.credentials {
            // A signature is good for one request only, so each try gets its own.
            request = request.header(
                AUTHORIZATION,
                self.signature(credentials, call, url, body.as_deref())?,
            );
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, JSON).body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|source| TaskclusterError::unreachable(call.name, source))?;
        let mut answer = Answer {
            name: call.name,
            status: response.status(),
            body: Bytes::new(),
        };
        let retry_after = call::retry_after(&response);
        answer.body = read(call.name, response, MAX_ANSWER).await?;
        if answer.status.is_success() || answer.status.is_redirection() {
            return Ok(answer);
        }
        let secret = self
            .credentials
            .as_ref()
            .map(|credentials| &credentials.access_token);
        Err(answer.refusal(retry_after, secret))
    }

    fn signature(
        &self,
        credentials: &Credentials,
        call: &Call<'_>,
        url: &Url,
        body: Option<&[u8]>,
    ) -> Result<HeaderValue, TaskclusterError> {
        let nonce = self.clock.new_id().simple().to_string();
        let header = hawk::authorization(
            credentials,
            call.method.as_str(),
            url,
            body,
            self.clock.now(),
            &nonce,
        )
        .map_err(|problem| TaskclusterError::Unsigned {
            call: call.name,
            problem: problem.to_string(),
        })?;
        let mut value = HeaderValue::from_str(&header).map_err(|_| TaskclusterError::Unsigned {
            call: call.name,
            problem: "the client id holds characters that no header can".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The body of an answer, up to `limit` bytes.
async fn read(
    name: &'static str,
    mut response: Response,
    limit: usize,
) -> Result<Bytes, TaskclusterError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| TaskclusterError::unreachable(name, source))?
    {
        if body.len() + chunk.len() > limit {
            return Err(TaskclusterError::TooLarge { call: name, limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}
