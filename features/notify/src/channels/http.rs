//! HTTP for channels: a request, its bounded answer, and the errors that have the same meaning for all peers.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, header};
use url::{Host, Url};

use crate::{ChannelError, Settings, SettingsError, text::one_line};

/// The time limit of a request: a channel makes at most four in the minute of a sending.
const TIMEOUT: Duration = Duration::from_secs(14);
/// The bytes of an answer that are read at most.
const MAX_ANSWER: usize = 16 * 1024;
/// The bytes of an answer that an error quotes at most.
const MAX_QUOTED: usize = 200;
/// The valid addresses of a peer that receives a secret.
const HTTPS: &str = "an address that begins with https";

/// An answer, as far as it could be read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    retry_after: Option<Duration>,
}

/// The address in the setting `key`: with TLS, except on this machine.
pub(super) fn address(settings: &Settings, key: &'static str) -> Result<Url, SettingsError> {
    let url: Url = settings.value(key, HTTPS)?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(settings.invalid(key, HTTPS)),
    }
}

/// Sends a request. `what` names the attempt and the host in errors, since the address itself may be a secret.
pub(super) async fn ask(
    channel: &'static str,
    what: &str,
    request: RequestBuilder,
) -> Result<Answer, ChannelError> {
    match request.timeout(TIMEOUT).send().await {
        Ok(response) => Ok(Answer::read(response).await),
        Err(error) => {
            let is_unsent = error.is_connect();
            let problem = format!("{what}: {}", runtime::error_chain(&error.without_url()));
            if is_unsent {
                return Err(ChannelError::Unreachable { channel, problem });
            }
            Err(ChannelError::Failed {
                channel,
                problem: format!("{problem}: it may have arrived all the same"),
            })
        }
    }
}

/// Sends a HEAD request to `url`, which has no effect at the peer, and describes the answer. It proves little about posts.
pub(super) async fn reach(
    channel: &'static str,
    http: &reqwest::Client,
    url: Url,
) -> Result<String, ChannelError> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let answer = ask(
        channel,
        &format!("a HEAD request to {host}"),
        http.head(url),
    )
    .await?;
    let found = format!(
        "{host} answered a HEAD request with http status {}",
        answer.status.as_u16()
    );
    if answer.status.is_server_error() && answer.status != StatusCode::NOT_IMPLEMENTED {
        return Err(ChannelError::Failed {
            channel,
            problem: found,
        });
    }
    Ok(found)
}

impl Answer {
    /// Reads a bounded part of the body. A body that breaks off is kept as it is, since the status is complete.
    pub(crate) async fn read(mut response: Response) -> Self {
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let (status, mut body) = (response.status(), Vec::new());
        while body.len() < MAX_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
        }
        Self {
            status,
            body,
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    /// The answer in a form that an error can quote.
    pub(crate) fn quoted(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.body), MAX_QUOTED)
    }

    /// The error of an answer after which the same request may succeed: a rate limit, or a server error.
    pub(super) fn passing(&self, channel: &'static str, problem: &str) -> Option<ChannelError> {
        let problem = problem.to_owned();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(ChannelError::Busy {
                channel,
                retry_after: self.retry_after,
                problem,
            }),
            StatusCode::REQUEST_TIMEOUT => Some(ChannelError::Failed { channel, problem }),
            status if status.is_server_error() => Some(ChannelError::Failed { channel, problem }),
            _ => None,
        }
    }
}
