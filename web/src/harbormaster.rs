//! `POST /codereview/new`: Harbormaster's "make HTTP request" step calls it for each published diff.
//!
//! Harbormaster never repeats a request: any response but 2xx, and any fault of the connection, fails the author's build
//! permanently. So accepting depends on the bus alone, and 200 means that the bus has stored the build. Harbormaster's HTTP
//! client may send a request twice (over a kept-alive connection that was just closed), so a target is stored once.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Bytes, HttpBody},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use build::{BuildRequest, Phid, PhidError, Source, StagedCommit};
use bus::{Backoff, BusError, EnqueueOutcome};
use runtime::error_chain;
use secrecy::SecretString;
use tracing::{info, warn};
use url::form_urlencoded;

use crate::{
    WebSettings,
    client::ClientAddr,
    secret::{self, RefusalLog},
};

/// The longest value of a parameter, in characters.
const MAX_LENGTH: usize = 64;

/// The longest address of a staging area, in characters.
const MAX_ADDRESS: usize = 500;

/// The longest time for attempts to store a build while the bus does not respond.
const STORE_TIMEOUT: Duration = Duration::from_secs(8);

/// The pauses between these attempts.
const STORE_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    factor: 2,
    cap: Duration::from_millis(500),
};

/// The value of `Retry-After` while the bus is down, in seconds.
const RETRY_AFTER: &str = "5";

pub(crate) async fn accept(
    State((settings, refusals)): State<(Arc<WebSettings>, Arc<RefusalLog>)>,
    Extension(client): Extension<ClientAddr>,
    mut request: Request,
) -> Response {
    let (uri, headers) = (request.uri().clone(), std::mem::take(request.headers_mut()));
    let body = if request.body().is_end_stream() {
        Bytes::new()
    } else {
        match Bytes::from_request(request, &()).await {
            Ok(body) => body,
            Err(rejection) => return rejection.into_response(),
        }
    };
    let parameters = match Parameters::read(uri.query().unwrap_or_default(), &headers, &body) {
        Ok(parameters) => parameters,
        Err(fault) => return refuse(&fault),
    };
    if let Some(secret) = &settings.secret
        && !knows(secret, &headers, &parameters)
    {
        refusals.record(client, "/codereview/new");
        let challenge = [(
            header::WWW_AUTHENTICATE,
            "Basic realm=\"code review events\"",
        )];
        let refusal = (
            StatusCode::UNAUTHORIZED,
            challenge,
            "the shared secret is missing, repeated or wrong; send that of the configuration key webhook_secret once: as the \
             password of the header `Authorization: Basic`, or as the parameter `token`\n",
        );
        return refusal.into_response();
    }
    let request = match parameters.build(settings.producer.clock().now()) {
        Ok(request) => request,
        Err(fault) => return refuse(&fault),
    };
    let target = request.target.as_str();
    match store(&settings, &request).await {
        Ok(pushed) => {
            let repeated = if pushed.duplicates > 0 {
                " (a repeated request)"
            } else {
                ""
            };
            info!(
                state = "accepted",
                build = target,
                "accepted diff {} of D{}{repeated}",
                request.diff_id,
                request.revision_id
            );
            queued(&request).into_response()
        }
        Err(error) => {
            warn!(
                build = target,
                error = error_chain(&error),
                "cannot store a build; refused its request with 503"
            );
            let retry = [(header::RETRY_AFTER, RETRY_AFTER)];
            (StatusCode::SERVICE_UNAVAILABLE, retry, not_stored(&error)).into_response()
        }
    }
}

/// The response for a stored build. Harbormaster shows it in the build's log, to everybody who sees the build, so it holds
/// nothing but the parameters of the request. It begins with "Build queued".
fn queued(request: &BuildRequest) -> String {
    let BuildRequest {
        target,
        diff_id,
        revision_id,
        ..
    } = request;
    format!(
        "Build queued: {target}, diff {diff_id} of D{revision_id}.\n\
         Its operators follow it with `events builds show`, and its outcome will be shown on this build.\n"
    )
}

/// Stores the build, with attempts for [`STORE_TIMEOUT`]: the request is not repeated, and a Redis that restarts is back
/// within seconds. An attempt whose response was lost may have succeeded; the next one then finds a duplicate.
async fn store(settings: &WebSettings, request: &BuildRequest) -> Result<EnqueueOutcome, BusError> {
    let clock = settings.producer.clock();
    let begun = clock.now();
    for attempt in 1.. {
        let stored = settings
            .log
            .accept(&settings.producer, request, Source::Harbormaster);
        match stored.await {
            Err(
                error @ (BusError::Redis { .. }
                | BusError::Memory { .. }
                | BusError::Connection { .. }),
            ) => {
                let pause = STORE_BACKOFF.after(attempt, clock.as_ref());
                if clock.now().duration_since(begun).unsigned_abs() + pause > STORE_TIMEOUT {
                    return Err(error);
                }
                clock.sleep(pause).await;
            }
            stored => return stored,
        }
    }
    Ok(EnqueueOutcome::default())
}

/// The response for a build that was not stored, which Harbormaster shows in the build's log.
fn not_stored(error: &BusError) -> String {
    let failed = match error {
        BusError::Full { .. } => "too many builds wait in its queue",
        BusError::Memory { .. } => "its Redis has no memory left",
        BusError::Redis { .. } | BusError::Connection { .. } => {
            "its Redis does not answer, or accepts no writes"
        }
        _ => "its queue does not work",
    };
    format!(
        "Code review events did not store this build: {failed}. Nothing will be built. \
         Please restart this build in Harbormaster in a few minutes.\n"
    )
}

fn refuse(fault: &str) -> Response {
    warn!(fault, "refused a request with 400");
    (StatusCode::BAD_REQUEST, format!("{fault}\n")).into_response()
}

/// The parameters of a request, from its query string and its form body.
struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    fn read(query: &'a str, headers: &HeaderMap, body: &'a [u8]) -> Result<Self, String> {
        let form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let is_form = form.split(';').next().unwrap_or_default().trim()
            == "application/x-www-form-urlencoded";
        if !body.is_empty() && !is_form {
            return Err(
                "the body is not a form: send application/x-www-form-urlencoded, or a query"
                    .to_owned(),
            );
        }
        Ok(Self(
            form_urlencoded::parse(query.as_bytes())
                .chain(form_urlencoded::parse(body))
                .collect(),
        ))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| &**value)
    }

    /// The value of a parameter that must occur once.
    fn one(&self, name: &str) -> Result<&str, String> {
        let mut values = self.all(name);
        let value = values
            .next()
            .ok_or_else(|| format!("parameter {name} is missing"))?;
        if values.next().is_some() {
            return Err(format!("parameter {name} is repeated"));
        }
        if value.is_empty() {
            return Err(format!("parameter {name} is empty"));
        }
        if value.chars().count() > MAX_LENGTH {
            return Err(format!(
                "parameter {name} is longer than {MAX_LENGTH} characters"
            ));
        }
        Ok(value)
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        let value = self.one(name)?;
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        // Redis, JSON and Phabricator all take numbers up to 2⁶³ only.
        match value.parse::<i64>() {
            Ok(number) if digits && number > 0 => Ok(number.unsigned_abs()),
            Ok(0) => Err(format!("parameter {name} is zero")),
            Ok(number) if number < 0 => Err(format!("parameter {name} is negative")),
            _ => Err(format!("parameter {name} is not an integer")),
        }
    }

    fn phid(&self, name: &str, kind: &'static str) -> Result<Phid, String> {
        Phid::parse_as(kind, self.one(name)?).map_err(|error| match error {
            PhidError::Malformed => {
                format!("parameter {name} is not a PHID, expected PHID-{kind}-…")
            }
            PhidError::WrongType { .. } => {
                format!("parameter {name} is a PHID of another type, expected PHID-{kind}-…")
            }
        })
    }

    fn build(&self, accepted_at: jiff::Timestamp) -> Result<BuildRequest, String> {
        Ok(BuildRequest {
            diff_id: self.number("diff")?,
            repository: self.phid("repo", Phid::REPOSITORY)?,
            revision_id: self.number("revision")?,
            target: self.phid("target", Phid::TARGET)?,
            accepted_at,
            staged: self.staged(),
        })
    }

    /// What the request says of the staging area. Harbormaster sends empty values where a repository has none. A value that
    /// no address has is no fault of the build, which can do without: it is cut, so that it is none that we expect.
    fn staged(&self) -> Option<StagedCommit> {
        let value = |name: &str| {
            let value: String = self.all(name).next()?.chars().take(MAX_ADDRESS).collect();
            (!value.is_empty()).then_some(value)
        };
        let (url, reference) = (value("staging_uri"), value("staging_ref"));
        (url.is_some() || reference.is_some()).then_some(StagedCommit { url, reference })
    }
}

/// Whether the request holds the secret, as the password of its basic credentials or as the parameter `token`. Repeated
/// credentials count as missing: one request must not hold a thousand guesses.
fn knows(secret: &SecretString, headers: &HeaderMap, parameters: &Parameters<'_>) -> bool {
    let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
    let one = credentials.next().filter(|_| credentials.next().is_none());
    let basic = one.and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let decoded = BASE64_STANDARD
            .decode(encoded.trim())
            .ok()
            .filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(decoded[colon + 1..].to_vec())
    });
    let right = |offered: &[u8]| secret::verify(secret, offered);
    let mut tokens = parameters.all("token");
    let token = tokens.next().filter(|_| tokens.next().is_none());
    basic.is_some_and(|password| right(&password))
        || token.is_some_and(|token| right(token.as_bytes()))
}
