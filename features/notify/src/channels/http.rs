//! HTTP for channels: a request, its response within limits, and the errors that have the same meaning for all peers.

use std::time::Duration;

use http_client::{HttpError, Limits, Response};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::SecretString;
use url::Url;

use super::is_this_machine;
use crate::{ChannelError, Settings, SettingsError};

/// The time limit of a request: a channel makes at most four in the minute of a sending.
const TIMEOUT: Duration = Duration::from_secs(14);
/// The part of a response that is read.
pub(crate) const LIMITS: Limits = Limits::body(16 * 1024);
/// The bytes of a response that an error quotes at most.
const MAX_QUOTED: usize = 200;
/// The valid addresses of a peer that receives a secret.
const HTTPS: &str = "an address that begins with https";

/// The address in the setting `key`: with TLS, except on this machine.
pub(super) fn address(settings: &Settings, key: &'static str) -> Result<Url, SettingsError> {
    let url: Url = settings.value(key, HTTPS)?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_machine(host.trim_matches(['[', ']'])) => Ok(url),
        _ => Err(settings.invalid(key, HTTPS)),
    }
}

/// Sends a request once. `what` names the attempt and the host in errors, since the address itself may be a secret.
pub(super) async fn ask(
    channel: &'static str,
    what: &str,
    request: RequestBuilder,
) -> Result<Response, ChannelError> {
    let error = match http_client::open(request.timeout(TIMEOUT), LIMITS).await {
        Ok(response) => return Ok(response.beginning().await),
        Err(error) => error,
    };
    let problem = format!("{what}: {}", error.causes());
    Err(match error {
        HttpError::Unreachable(error) if error.is_connect() => {
            ChannelError::Unreachable { channel, problem }
        }
        _ => ChannelError::Failed {
            channel,
            problem: format!("{problem}: it may have arrived all the same"),
        },
    })
}

/// Sends a HEAD request to `url`, which has no effect at the peer, and describes the response. It proves little about posts.
pub(super) async fn reach(
    channel: &'static str,
    http: &reqwest::Client,
    url: Url,
) -> Result<String, ChannelError> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let what = format!("a HEAD request to {host}");
    let status = ask(channel, &what, http.head(url)).await?.status;
    let found = format!(
        "{host} answered a HEAD request with http status {}",
        status.as_u16()
    );
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        return Err(ChannelError::Failed {
            channel,
            problem: found,
        });
    }
    Ok(found)
}

/// The body of a response in a form that an error can quote, without the `secrets` that were sent.
pub(crate) fn quoted<'s>(
    response: &Response,
    secrets: impl IntoIterator<Item = &'s SecretString>,
) -> String {
    let body = String::from_utf8_lossy(&response.body);
    http_client::redact(&body, secrets, MAX_QUOTED)
}

/// The error of a response after which the same request may succeed: a rate limit, or a server error.
pub(super) fn passing(
    response: &Response,
    channel: &'static str,
    problem: &str,
) -> Option<ChannelError> {
    let problem = problem.to_owned();
    match response.error()? {
        HttpError::Busy {
            status: 429,
            retry_after,
        } => Some(ChannelError::Busy {
            channel,
            retry_after,
            problem,
        }),
        HttpError::Busy { .. } => Some(ChannelError::Failed { channel, problem }),
        _ => None,
    }
}
