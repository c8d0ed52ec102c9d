//! Client of Amazon Web Services: signed calls, credentials, and the meaning of error codes.
//!
//! The SDKs of the services are not used: seven calls of three services do not need 460,000 lines of generated code, nor
//! timers and retries beside those of this project. `aws-sigv4`, which the SDKs sign with, signs requests
//! of the HTTP client of all channels. Credentials that are not set are [searched](credentials) like the SDKs do.

mod credentials;
mod service_error;

use std::{sync::Arc, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use bytes::Bytes;
use http_client::{HttpError, Limits, Response};
use reqwest::{
    Method, RequestBuilder,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use runtime::Clock;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::OnceCell,
    time::{Duration, timeout},
};
use url::Url;

use self::{
    credentials::{Identity, Search},
    service_error::Refusal,
};
use crate::{ChannelError, Key, Parts, Settings, SettingsError, text::one_line};

/// The id of the access key.
pub(crate) const ACCESS_KEY_ID: Key = Key::new("access_key_id").or_variable("AWS_ACCESS_KEY_ID");
/// The secret of the access key.
pub(crate) const SECRET_ACCESS_KEY: Key =
    Key::new("secret_access_key").or_variable("AWS_SECRET_ACCESS_KEY");
/// The token of temporary credentials.
pub(crate) const SESSION_TOKEN: Key = Key::new("session_token").or_variable("AWS_SESSION_TOKEN");
/// Where the service is called.
pub(crate) const REGION: Key = Key::new("region").or_variable("AWS_REGION");
/// The address of another provider, such as a compatible store.
pub(crate) const ENDPOINT: Key = Key::new("endpoint").or_variable("AWS_ENDPOINT_URL");

/// The default region: that of Taskcluster's own stores.
pub(crate) const DEFAULT_REGION: &str = "us-west-2";
/// The longest name of a region, in bytes.
const MAX_REGION: usize = 40;
/// The part of an answer that is read: nothing beyond it has a meaning.
const LIMITS: Limits = Limits::body(256 * 1024);
/// The time limit of the search for credentials.
const LONGEST_SEARCH: Duration = Duration::from_secs(20);
/// The longest text of a failed search, in bytes.
const MAX_PROBLEM: usize = 400;
/// The time limit of a call, which may upload a part of a log.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// A service of Amazon.
pub(crate) struct Service {
    /// The channel that uses it.
    pub(crate) channel: &'static str,
    /// Its name in signatures.
    pub(crate) name: &'static str,
    /// The prefix of its host name.
    pub(crate) host: &'static str,
    /// The key of the resource, such as `notify.sns.arn`.
    pub(crate) resource: &'static str,
    /// The key of its region.
    pub(crate) region: &'static str,
    /// Whether it is S3: then signatures use names without normalization, and a header with the hash of the body.
    pub(crate) is_store: bool,
}

/// A client for one service.
pub(crate) struct Aws {
    service: &'static Service,
    /// From the settings.
    region: Option<String>,
    endpoint: Option<Url>,
    identity: Identity,
    /// Determined by the first call.
    place: OnceCell<Place>,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

/// The region and the address of a service.
struct Place {
    region: String,
    endpoint: Url,
}

/// A call before it is signed.
pub(crate) struct Call<'a> {
    /// The action, for errors, such as `publish to the topic`.
    pub(crate) what: &'static str,
    pub(crate) method: Method,
    /// The path below the endpoint, of characters that need no encoding.
    pub(crate) path: &'a str,
    /// The query, in the same way.
    pub(crate) query: &'a str,
    /// Names (in lower case) and values.
    pub(crate) headers: &'a [(&'static str, &'static str)],
    pub(crate) body: Bytes,
}

/// The outcome of a call with an answer.
enum Attempt {
    Answered(Response),
    Refused {
        /// Whether the credentials are valid, and only lack the right.
        is_for_a_right: bool,
        error: ChannelError,
    },
}

impl Aws {
    /// What `settings` give the right to. `region` is that of a resource that tells its own.
    pub(crate) fn open(
        service: &'static Service,
        region: Option<String>,
        settings: &Settings,
        parts: &Parts<'_>,
    ) -> Result<Self, SettingsError> {
        let region = region.or_else(|| settings.optional_text(REGION.name));
        if region.as_deref().is_some_and(|region| !is_region(region)) {
            return Err(settings.invalid(REGION.name, "the name of a region such as us-west-2"));
        }
        let invalid =
            || settings.invalid(ENDPOINT.name, "an address that begins with http or https");
        let endpoint = settings
            .optional_text(ENDPOINT.name)
            .map(|endpoint| Url::parse(&endpoint).map_err(|_| invalid()));
        let endpoint = endpoint.transpose()?;
        let is_plain = |endpoint: &Url| {
            let plain = endpoint.username().is_empty()
                && endpoint.password().is_none()
                && endpoint.query().is_none();
            matches!(endpoint.scheme(), "http" | "https") && endpoint.host_str().is_some() && plain
        };
        if endpoint
            .as_ref()
            .is_some_and(|endpoint| !is_plain(endpoint))
        {
            return Err(invalid());
        }
        let (http, clock) = (parts.http.clone(), Arc::clone(parts.clock));
        let is_set = [ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN]
            .iter()
            .any(|key| settings.optional_secret(key.name).is_some());
        let identity = if is_set {
            let (id, secret) = (
                settings.secret(ACCESS_KEY_ID.name)?,
                settings.secret(SECRET_ACCESS_KEY.name)?,
            );
            let token = settings.optional_secret(SESSION_TOKEN.name);
            let exposed = |secret: &SecretString| secret.expose_secret().trim().to_owned();
            Identity::Set(Credentials::from_keys(
                exposed(&id),
                exposed(&secret),
                token.as_ref().map(exposed),
            ))
        } else {
            Identity::Found(Box::new(Search::new(
                http.clone(),
                region.clone(),
                Arc::clone(&clock),
            )))
        };
        Ok(Self {
            service,
            region,
            endpoint,
            identity,
            place: OnceCell::new(),
            http,
            clock,
        })
    }

    /// Where the service is called: as it is set, else in the region that the search finds, else in the default one.
    async fn place(&self) -> Result<&Place, ChannelError> {
        self.place
            .get_or_try_init(async || {
                let region = match &self.region {
                    Some(region) => region.clone(),
                    None => {
                        let found = self
                            .identity
                            .region()
                            .await
                            .filter(|region| is_region(region));
                        found.unwrap_or_else(|| DEFAULT_REGION.to_owned())
                    }
                };
                let endpoint = match &self.endpoint {
                    Some(endpoint) => endpoint.clone(),
                    None => Url::parse(&format!(
                        "https://{}.{region}.amazonaws.com",
                        self.service.host
                    ))
                    .map_err(|error| {
                        self.unreachable("", "find its address", &error.to_string())
                    })?,
                };
                Ok(Place { region, endpoint })
            })
            .await
    }

    /// The channel that calls.
    pub(crate) fn channel(&self) -> &'static str {
        self.service.channel
    }

    /// Signs and makes a call, without retries. It ends within a minute.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Response, ChannelError> {
        match self.attempt(call).await? {
            Attempt::Answered(answer) => Ok(answer),
            Attempt::Refused { error, .. } => Err(error),
        }
    }

    /// Makes a call that only reads, to verify the credentials. An answer that a right is missing counts as success:
    /// notifications need no right to read.
    pub(crate) async fn ask(&self, call: Call<'_>) -> Result<String, ChannelError> {
        let what = call.what;
        let end = match self.attempt(call).await? {
            Attempt::Answered(_) => format!("and let us {what}"),
            Attempt::Refused {
                is_for_a_right: true,
                ..
            } => {
                format!("and gives no right to {what}, which nothing needs")
            }
            Attempt::Refused { error, .. } => return Err(error),
        };
        let host = self.place().await?.endpoint.host_str().unwrap_or_default();
        Ok(format!("{host} accepts our credentials, {end}"))
    }

    async fn attempt(&self, call: Call<'_>) -> Result<Attempt, ChannelError> {
        let what = call.what;
        let found = timeout(LONGEST_SEARCH, async {
            Ok((self.place().await?, self.identity.credentials().await))
        });
        let found = found.await.unwrap_or_else(|_| {
            Err(self.unsigned(what, &"the search for credentials took too long"))
        });
        let (place, credentials) = found?;
        let credentials =
            credentials.map_err(|problem| self.unsigned(what, &one_line(&problem, MAX_PROBLEM)))?;
        let host = place.endpoint.host_str().unwrap_or_default();
        let answer = self.answer(call, place, &credentials).await?;
        // A store may begin its answer, with a status of success, before the call fails.
        let is_refusal = !answer.status.is_success()
            || (self.service.is_store && service_error::is_error(&answer.body));
        if is_refusal {
            let refusal = Refusal::read(&answer);
            let error = refusal.judge(what, host, self.service, &secrets(&credentials));
            if matches!(error, ChannelError::Credentials { .. }) {
                self.identity.forget().await;
            }
            return Ok(Attempt::Refused {
                is_for_a_right: refusal.is_for_a_right(),
                error,
            });
        }
        Ok(Attempt::Answered(answer))
    }

    async fn answer(
        &self,
        call: Call<'_>,
        place: &Place,
        credentials: &Credentials,
    ) -> Result<Response, ChannelError> {
        let host = place.endpoint.host_str().unwrap_or_default();
        let mut url = place.endpoint.clone();
        url.set_path(&format!(
            "{}{}",
            place.endpoint.path().trim_end_matches('/'),
            call.path
        ));
        url.set_query(Some(call.query).filter(|query| !query.is_empty()));
        let stated = call.headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut headers: HeaderMap = stated.collect();
        headers.extend(self.signature(&call, &url, &headers, place, credentials)?);
        // The client's own limit is one for short calls.
        let request = self
            .http
            .request(call.method, url)
            .headers(headers)
            .timeout(LONGEST_CALL)
            .body(call.body);
        send(request).await.map_err(|error| match &error {
            HttpError::Unreachable(source) if source.is_connect() => {
                self.unreachable(host, call.what, &error.causes())
            }
            HttpError::TimedOut(_) => self.unanswered(host, call.what, "no answer in time"),
            _ => self.unanswered(host, call.what, &error.causes()),
        })
    }

    /// The headers that sign a call.
    fn signature(
        &self,
        call: &Call<'_>,
        url: &Url,
        headers: &HeaderMap,
        place: &Place,
        credentials: &Credentials,
    ) -> Result<HeaderMap, ChannelError> {
        let unsigned = |problem: &dyn std::fmt::Display| self.unsigned(call.what, problem);
        let mut settings = SigningSettings::default();
        if self.service.is_store {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&place.region)
            .name(self.service.name)
            .time(SystemTime::from(self.clock.now()))
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?;
        let texts = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(&call.body);
        let request = SignableRequest::new(call.method.as_str(), url.as_str(), texts, body)
            .map_err(|error| unsigned(&runtime::error_chain(&error)))?;
        let signed = sign(request, &params.into())
            .map_err(|error| unsigned(&runtime::error_chain(&error)))?;
        let (signed, _) = signed.into_parts().0.into_parts();
        signed
            .into_iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value())
                    .map_err(|_| unsigned(&"they hold characters that no header can"))?;
                value.set_sensitive(true);
                Ok((HeaderName::from_static(header.name()), value))
            })
            .collect()
    }

    fn unsigned(&self, what: &str, problem: &dyn std::fmt::Display) -> ChannelError {
        ChannelError::Credentials {
            channel: self.channel(),
            problem: format!(
                "cannot sign to {what}: {problem}: {}",
                service_error::set_credentials(self.service)
            ),
        }
    }

    fn unreachable(&self, host: &str, what: &str, problem: &str) -> ChannelError {
        ChannelError::Unreachable {
            channel: self.channel(),
            problem: format!("tried at {host} to {what}: {problem}"),
        }
    }

    /// The error for an unknown outcome. Repeating a call to a store is safe: it stores the object once.
    fn unanswered(&self, host: &str, what: &str, problem: &str) -> ChannelError {
        if self.service.is_store {
            return self.unreachable(host, what, problem);
        }
        let problem =
            format!("tried at {host} to {what}: {problem}: it may have been done all the same");
        ChannelError::Failed {
            channel: self.channel(),
            problem,
        }
    }
}

/// The secrets that an error must not hold.
fn secrets(credentials: &Credentials) -> Vec<&str> {
    let keys = [credentials.access_key_id(), credentials.secret_access_key()];
    keys.into_iter()
        .chain(credentials.session_token())
        .collect()
}

/// Whether the text is safe as a region: it becomes a part of a host name.
pub(crate) fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_REGION).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Sends a request once and reads the answer, with whatever status.
async fn send(request: RequestBuilder) -> Result<Response, HttpError> {
    http_client::open(request, LIMITS).await?.truncated().await
}
