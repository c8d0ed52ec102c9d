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

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_client::{Limits, PublicClient};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use runtime::{Attempts, Backoff, Clock, FailureLog, error_chain};
use tracing::{error, info, warn};
use url::Url;

use call::{Answer, Call};

pub use artifact::{Artifact, ArtifactStream};
pub use credentials::Credentials;
pub use error::TaskclusterError;
pub use index::IndexedTask;
pub use notify::{Email, EmailTemplate, Mailed};
pub use queue::{GroupPage, GroupTask};

/// The attempts of one call while another may help.
const ATTEMPTS: Attempts = Attempts {
    most: 4,
    waits: Backoff {
        first: Duration::from_millis(500),
        factor: 2,
        cap: Duration::from_secs(8),
    },
};
/// The longest `Retry-After` that a call waits for. For a longer one the call fails, and its message is deferred.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A page of a group holds 1,000 definitions of some 10 kB.
const LIMITS: Limits = Limits::body(64 << 20);
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
    /// The refusals of the credentials.
    refused: FailureLog,
    /// The calls without a response.
    away: FailureLog,
    /// The refusals for missing scopes, one for each hook, say. They are logged once in the life of the process.
    missing: FailureLog<String>,
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
        Self {
            root,
            credentials,
            http,
            own,
            elsewhere: None,
            clock,
            refused: FailureLog::default(),
            away: FailureLog::default(),
            missing: FailureLog::default(),
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
            Err(TaskclusterError::Credentials { .. }) if self.refused.should_log(()) => {
                error!(
                    host = self.root.host_str(),
                    "taskcluster does not accept the credentials; messages that need it are deferred until they are valid"
                )
            }
            Err(TaskclusterError::Scopes { call, message })
                if self.missing.should_log(message.clone()) =>
            {
                error!(
                    host = self.root.host_str(),
                    call,
                    message,
                    "taskcluster's client lacks scopes; messages that need them are deferred until it has them"
                )
            }
            Err(error) if error.is_outage() && self.away.should_log(()) => warn!(
                host = self.root.host_str(),
                error = error_chain(error),
                "taskcluster does not answer; messages that need it are deferred until it does"
            ),
            Ok(_) => {
                if self.refused.recovered() {
                    info!(
                        host = self.root.host_str(),
                        "taskcluster accepts the credentials again"
                    );
                }
                if self.away.recovered() {
                    info!(host = self.root.host_str(), "taskcluster answers again");
                }
            }
            Err(_) => {}
        }
        result
    }

    /// Tries until there is an answer, or no hope for one within the time that a call may take.
    async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, TaskclusterError>
    where
        F: Future<Output = Result<T, TaskclusterError>>,
    {
        let pause = |error: &TaskclusterError| error.pause(LONGEST_WAIT);
        ATTEMPTS
            .run(self.clock.as_ref(), |_| attempt(), pause)
            .await
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
        let response = http_client::send(request, LIMITS)
            .await
            .map_err(TaskclusterError::http(call.name))?;
        let answer = Answer {
            name: call.name,
            response,
        };
        match answer.response.error() {
            Some(_) if answer.response.status.is_redirection() => Ok(answer),
            None => Ok(answer),
            Some(error) => {
                let credentials = self.credentials.as_ref();
                let secret = credentials.map(|credentials| &credentials.access_token);
                Err(answer.refusal(error, secret))
            }
        }
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
