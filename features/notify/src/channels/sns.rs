//! `sns`: a short text for a topic of Amazon SNS, whose subscribers are mailboxes, telephones and queues.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use url::form_urlencoded;

use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    Templates,
    aws::{self, Aws, Call},
    text::{bounded, one_line},
};

const NAME: &str = "sns";
const TEMPLATE: &str = "sns.txt";
/// The headers of a call.
const FORM: &[(&str, &str)] = &[(
    "content-type",
    "application/x-www-form-urlencoded; charset=utf-8",
)];
/// The longest subject that SNS accepts, in characters.
const MAX_SUBJECT: usize = 100;
/// The longest message that SNS accepts, in bytes.
const MAX_MESSAGE: usize = 256 * 1024;

static SERVICE: aws::Service = aws::Service {
    channel: NAME,
    name: "sns",
    host: "sns",
    resource: "notify.sns.arn",
    region: "notify.sns.arn",
    is_store: false,
};

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("arn").or_variable("SNS_ARN"),
        aws::ACCESS_KEY_ID,
        aws::SECRET_ACCESS_KEY,
        aws::SESSION_TOKEN,
        aws::ENDPOINT,
    ],
    templates: &[(TEMPLATE, include_str!("../../templates/sns.txt"))],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let arn = settings.text("arn")?;
    let invalid = || {
        settings.invalid(
            "arn",
            "the ARN of a standard topic, such as arn:aws:sns:us-west-2:123456789012:name",
        )
    };
    let region = region_of(&arn).ok_or_else(invalid)?.to_owned();
    let aws = Aws::open(&SERVICE, Some(region), settings, parts)?;
    Ok(Box::new(Sns {
        arn,
        aws,
        templates: Arc::clone(parts.templates),
    }))
}

/// The region of a standard topic. A topic with an order (`.fifo`) requires a group id, and cannot notify people.
fn region_of(arn: &str) -> Option<&str> {
    let [prefix, _, service, region, account, topic] =
        arn.split(':').collect::<Vec<_>>().try_into().ok()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_topic = !topic.is_empty() && topic.bytes().all(fits);
    let is_account = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
    (prefix == "arn" && service == "sns" && is_account && is_topic && aws::is_region(region))
        .then_some(region)
}

struct Sns {
    arn: String,
    aws: Aws,
    templates: Arc<Templates>,
}

#[async_trait]
impl Channel for Sns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, _: &Notification) -> Vec<String> {
        vec![self.arn.clone()]
    }

    async fn send(&self, notification: &Notification, _: &str) -> Result<(), ChannelError> {
        let message = self.templates.render(NAME, TEMPLATE, notification)?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "Publish")
            .append_pair("Version", "2010-03-31")
            .append_pair("TopicArn", &self.arn)
            .append_pair("Subject", &subject(notification))
            .append_pair("Message", &bounded(&message, MAX_MESSAGE))
            .finish();
        let call = Call {
            what: "publish to the topic",
            method: Method::POST,
            path: "/",
            query: "",
            headers: FORM,
            body: Bytes::from(body),
        };
        self.aws.call(call).await.map(drop)
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "GetTopicAttributes")
            .append_pair("Version", "2010-03-31")
            .append_pair("TopicArn", &self.arn)
            .finish();
        let call = Call {
            what: "read the attributes of the topic",
            method: Method::POST,
            path: "/",
            query: "",
            headers: FORM,
            body: Bytes::from(body),
        };
        let by_hand = "whether our credentials give the right to sns:Publish".to_owned();
        Ok(Checked {
            found: Some(self.aws.ask(call).await?),
            by_hand: Some(by_hand),
        })
    }
}

/// The subject in the form that SNS accepts: short, in ASCII, on one line.
fn subject(notification: &Notification) -> String {
    let line = one_line(&notification.subject, 4 * MAX_SUBJECT);
    let ascii: String = line
        .chars()
        .map(|character| if character.is_ascii() { character } else { '?' })
        .collect();
    match ascii.as_str() {
        // It must not be empty.
        "" => notification.status.to_string(),
        whole if whole.len() <= MAX_SUBJECT => whole.to_owned(),
        long => format!("{}...", &long[..MAX_SUBJECT - 3]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_read_from_topic() {
        assert_eq!(
            region_of("arn:aws:sns:eu-west-1:123456789012:ci_failures-1"),
            Some("eu-west-1")
        );
        for wrong in [
            "",
            "ci",
            "arn:aws:sqs:us-west-2:123456789012:ci",
            "arn:aws:sns:evil.example/:123456789012:ci",
            "arn:aws:sns::123456789012:ci",
            "arn:aws:sns:us-west-2::ci",
            "arn:aws:sns:us-west-2:123456789012:",
            "arn:aws:sns:us-west-2:123456789012:ci.fifo",
            "arn:aws:sns:us-west-2:123456789012:ci:0b2c4d",
        ] {
            assert_eq!(region_of(wrong), None, "{wrong}");
        }
    }
}
