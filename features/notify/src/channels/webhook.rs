//! `webhook`: a JSON object in a signed POST, for programs.
//!
//! # How a receiver verifies a request
//!
//! `X-Events-Timestamp` is the time of the signature, in seconds since 1970. `X-Events-Signature` is `sha256=` and the
//! hexadecimal HMAC-SHA256, under the shared secret, of that timestamp as it stands in its header, a full stop, and the
//! bytes of the body. A receiver computes the same, compares in constant time, and rejects a request that is older
//! than some minutes. A repeated request has the same `X-Events-Delivery`.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use http_client::Response;
use reqwest::{StatusCode, header};
use runtime::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use super::http;
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    text::one_line,
};

const NAME: &str = "webhook";

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[Key::new("url"), Key::new("secret")],
    templates: &[],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let url: Url = settings.value("url", "an address that begins with http or https")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(settings.invalid("url", "an address that begins with http or https"));
    }
    let secret = settings.secret("secret")?;
    Ok(Box::new(Webhook {
        url,
        secret,
        http: parts.http.clone(),
        clock: Arc::clone(parts.clock),
    }))
}

struct Webhook {
    /// Any part but the host may hold a secret.
    url: Url,
    secret: SecretString,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Channel for Webhook {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, _: &Notification) -> Vec<String> {
        vec![self.host().to_owned()]
    }

    fn is_read_by_people(&self) -> bool {
        false
    }

    async fn send(&self, notification: &Notification, _: &str) -> Result<(), ChannelError> {
        let body = body(notification).to_string();
        let timestamp = self.clock.now().as_second().to_string();
        let signature = signature(
            self.secret.expose_secret().as_bytes(),
            &timestamp,
            body.as_bytes(),
        );
        let request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Events-Delivery", delivery(notification))
            .header("X-Events-Timestamp", timestamp)
            .header("X-Events-Signature", format!("sha256={signature}"))
            .body(body);
        let answer = http::ask(NAME, &format!("post to {}", self.host()), request).await?;
        self.judge(&answer)
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let found = http::reach(NAME, &self.http, self.url.clone()).await?;
        Ok(Checked {
            found: Some(found),
            by_hand: Some(
                "whether it takes posts, and accepts our signature, which only a post shows"
                    .to_owned(),
            ),
        })
    }
}

impl Webhook {
    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn judge(&self, answer: &Response) -> Result<(), ChannelError> {
        let status = answer.status;
        let problem = format!(
            "{} answered the post with http status {}",
            self.host(),
            status.as_u16()
        );
        if status.is_success() {
            return Ok(());
        }
        Err(
            http::passing(answer, NAME, &problem).unwrap_or_else(|| match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ChannelError::Credentials {
                    channel: NAME,
                    problem: format!("{problem}: set notify.webhook.secret to what it expects"),
                },
                _ => ChannelError::Refused {
                    channel: NAME,
                    problem: format!(
                        "{problem}: set notify.webhook.url to an address that takes posts"
                    ),
                },
            }),
        )
    }
}

fn body(notification: &Notification) -> serde_json::Value {
    json!({
        "version": 1,
        "status": notification.status,
        "identity": notification.identity,
        "task": {
            "id": notification.task.id,
            "name": notification.task.name,
            "group": notification.task.group_id,
            "run": notification.task.run_id,
        },
        "artifact": notification.artifact,
        "subject": notification.subject,
        "message": notification.message,
        "link": notification.links.task,
        "logs": notification.links.logs,
    })
}

/// The notification's key, without characters that a header cannot hold.
fn delivery(notification: &Notification) -> String {
    let key = one_line(&notification.key(), 400);
    key.chars()
        .map(|character| {
            if character.is_ascii_graphic() {
                character
            } else {
                '?'
            }
        })
        .collect()
}

fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signing.update(timestamp.as_bytes());
    signing.update(b".");
    signing.update(body);
    signing
        .sign()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn signature_matches_published_examples() {
        assert_eq!(
            signature(b"secret", "1700000000", b"{}"),
            "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
    }
}
