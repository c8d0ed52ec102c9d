//! `slack`: a message by Slack's incoming webhook, into the one channel of the webhook.
//!
//! Foreign text is escaped: it has no links, no mentions and no format. Only the template makes links, and nothing is
//! unfurled. The meaning of answers: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.

use std::sync::Arc;

use async_trait::async_trait;
use http_client::Response;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use super::http;
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    Status, Templates,
    notification::MAX_SUBJECT,
    text::{bounded, mrkdwn, one_line},
};

const NAME: &str = "slack";
const TEMPLATE: &str = "slack.mrkdwn";

/// The longest text of a block, in bytes: Slack accepts 3000 characters.
const MAX_BLOCK: usize = 2900;
/// The most blocks of a message: Slack accepts 50.
const MAX_BLOCKS: usize = 10;

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[Key::new("url")],
    templates: &[(TEMPLATE, include_str!("../../templates/slack.mrkdwn"))],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let url = http::address(settings, "url")?;
    Ok(Box::new(Slack {
        url,
        http: parts.http.clone(),
        templates: Arc::clone(parts.templates),
    }))
}

struct Slack {
    /// A secret, except for the host: its owner can post.
    url: Url,
    http: reqwest::Client,
    templates: Arc<Templates>,
}

#[async_trait]
impl Channel for Slack {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, _: &Notification) -> Vec<String> {
        vec![self.host().to_owned()]
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let payload = payload(
            notification,
            &self.templates.render(NAME, TEMPLATE, notification)?,
        );
        let request = self.http.post(self.url.clone()).json(&payload);
        let answer = http::ask(NAME, &format!("post to {}", self.host()), request).await?;
        self.judge(&answer, recipient)
    }

    /// Connects to Slack's host only: a post would appear in the channel.
    async fn check(&self) -> Result<Checked, ChannelError> {
        let mut url = self.url.clone();
        url.set_path("/");
        url.set_query(None);
        let found = http::reach(NAME, &self.http, url).await?;
        Ok(Checked {
            found: Some(found),
            by_hand: Some("whether the webhook works, which only a post shows".to_owned()),
        })
    }
}

impl Slack {
    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn judge(&self, answer: &Response, recipient: &str) -> Result<(), ChannelError> {
        // Whoever answers may name the path that was requested.
        let path = SecretString::from(self.url.path().trim_end_matches('/'));
        let (host, status, said) = (self.host(), answer.status, http::quoted(answer, [&path]));
        if status.is_success() && said == "ok" {
            return Ok(());
        }
        let problem = format!(
            "{host} answered the post with http status {}: {said}",
            status.as_u16()
        );
        if let Some(error) = http::passing(answer, NAME, &problem) {
            return Err(error);
        }
        Err(match (status, said.as_str()) {
            (_, "channel_is_archived" | "channel_not_found") => ChannelError::HardBounce {
                channel: NAME,
                recipient: recipient.to_owned(),
                problem: format!(
                    "{problem}: the webhook's channel is gone; bring it back, or set notify.slack.url to the webhook of \
                     another"
                ),
            },
            (_, "action_prohibited" | "posting_to_general_channel_denied") => {
                ChannelError::Credentials {
                    channel: NAME,
                    problem: format!(
                        "{problem}: an administrator of the workspace has to allow posts to this channel, or set \
                     notify.slack.url to the webhook of another"
                    ),
                }
            }
            (
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::GONE,
                _,
            ) => ChannelError::Credentials {
                channel: NAME,
                problem: format!(
                    "{problem}: the webhook is revoked or mistyped; set notify.slack.url to a new one"
                ),
            },
            (StatusCode::BAD_REQUEST, _) => ChannelError::Refused {
                channel: NAME,
                problem: format!("{problem}: look at the template {TEMPLATE}"),
            },
            _ => ChannelError::Refused {
                channel: NAME,
                problem: format!(
                    "{problem}: set notify.slack.url to the address of an incoming webhook"
                ),
            },
        })
    }
}

/// The message: the subject, then the rendered template beside a bar in the status' colour.
///
/// `parse` and `verbatim` keep Slack from turning plain text into links and mentions.
fn payload(notification: &Notification, text: &str) -> Value {
    let blocks: Vec<_> = blocks(text)
        .into_iter()
        .map(|text| json!({ "type": "section", "text": { "type": "mrkdwn", "verbatim": true, "text": text } }))
        .collect();
    json!({
        "text": mrkdwn(&one_line(&notification.subject, MAX_SUBJECT)),
        "parse": "none",
        "unfurl_links": false,
        "unfurl_media": false,
        "attachments": [{ "color": color(notification), "blocks": blocks }],
    })
}

fn color(notification: &Notification) -> &'static str {
    if !notification.digest.is_empty() {
        return "#737373";
    }
    match notification.status {
        Status::TaskCompleted => "#2da44e",
        Status::TaskFailed => "#cf222e",
        Status::TaskException => "#8250df",
        Status::ArtifactCreated => "#0969da",
        Status::TaskDefined | Status::TaskPending | Status::TaskRunning => "#737373",
    }
}

/// The text in as many blocks as it needs, cut between lines. The rest beyond a message's limit is dropped.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines().map(cut) {
        let full = blocks.len() == MAX_BLOCKS;
        match blocks.last_mut() {
            Some(block) if block.len() + 1 + line.len() <= MAX_BLOCK => {
                block.push('\n');
                block.push_str(&line);
            }
            Some(block) if full => {
                block.push_str("\n…");
                break;
            }
            // Slack rejects an empty block.
            _ if line.trim().is_empty() => {}
            _ => blocks.push(line),
        }
    }
    blocks
}

/// A line that fits into a block, without half a link or half an entity at its end.
fn cut(line: &str) -> String {
    let mut kept = bounded(line, MAX_BLOCK);
    if kept.len() == line.len() {
        return kept;
    }
    for (begin, end) in [('<', '>'), ('&', ';')] {
        if let Some(at) = kept.rfind(begin).filter(|at| !kept[*at..].contains(end)) {
            kept.truncate(at);
            kept.push('…');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_lines() {
        let line = "x".repeat(1000);
        let short = [line.as_str(); 3].join("\n");
        let two = blocks(&short);
        assert_eq!((two.len(), two.join("\n")), (2, short));
        let long = blocks(&[line.as_str(); 100].join("\n"));
        assert_eq!(
            (long.len(), long.iter().all(|block| block.len() <= 3000)),
            (MAX_BLOCKS, true)
        );
        assert!(long[MAX_BLOCKS - 1].ends_with("\n…"));
        assert_eq!(blocks("\n \n"), Vec::<String>::new());
    }

    #[test]
    fn cut_text_has_no_half_link_or_entity() {
        let begin = "x".repeat(MAX_BLOCK - 10);
        for rest in [
            "<https://example.com/|a task>",
            "&amp;&amp;&amp;&amp;",
            "<https://e.com/?a=1&amp;b|x>",
        ] {
            let kept = cut(&format!("{begin}{rest}"));
            assert!(kept.len() <= MAX_BLOCK && kept.ends_with('…'), "{rest}");
            let end = kept[begin.len()..].trim_end_matches('…');
            assert!(["", "&amp;"].contains(&end), "{rest}: {end}");
        }
    }
}
