//! `ses`: mails through Amazon SES, the same as those of [`super::smtp`]. They are rendered here and sent raw
//! (`SendEmail` of version 2), so threads and templates are the same too.
//!
//! SES sends only from addresses and domains that are verified there. An account in its sandbox also sends only to such
//! addresses.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    aws::{self, Aws, Call},
    mail::{self, Mail, MailWriter},
};

const NAME: &str = "ses";

static SERVICE: aws::Service = aws::Service {
    channel: NAME,
    name: "ses",
    host: "email",
    resource: "notify.ses.region",
    region: "notify.ses.region",
    is_store: false,
};

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("email").or_variable("SES_EMAIL"),
        aws::ACCESS_KEY_ID,
        aws::SECRET_ACCESS_KEY,
        aws::SESSION_TOKEN,
        aws::REGION,
        aws::ENDPOINT,
        mail::DEFAULT_RECIPIENT,
        mail::THREADING_DOMAIN,
    ],
    templates: mail::TEMPLATES,
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let writer = MailWriter::open(
        NAME,
        settings,
        Arc::clone(parts.templates),
        Arc::clone(parts.clock),
    )?;
    Ok(Box::new(Ses {
        writer,
        aws: Aws::open(&SERVICE, None, settings, parts)?,
    }))
}

struct Ses {
    writer: MailWriter,
    aws: Aws,
}

#[async_trait]
impl Channel for Ses {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, notification: &Notification) -> Vec<String> {
        self.writer.recipients(notification)
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let Mail { from, to, bytes } = self.writer.write(notification, recipient)?;
        let body = json!({
            "FromEmailAddress": from.to_string(),
            "Destination": { "ToAddresses": [to.to_string()] },
            "Content": { "Raw": { "Data": STANDARD.encode(bytes) } },
        });
        let call = Call {
            what: "send a mail",
            method: Method::POST,
            path: "/v2/email/outbound-emails",
            query: "",
            headers: &[("content-type", "application/json")],
            body: body.to_string().into(),
        };
        self.aws.call(call).await.map(drop)
    }

    /// With a call of version 1, since each such call of version 2 needs a name in its path.
    async fn check(&self) -> Result<Checked, ChannelError> {
        let from = self.writer.from();
        let call = Call {
            what: "read the sending quota",
            method: Method::POST,
            path: "/",
            query: "",
            headers: &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )],
            body: Bytes::from_static(b"Action=GetSendQuota&Version=2010-12-01"),
        };
        let found = self.aws.ask(call).await?;
        let by_hand = format!(
            "whether {from} is verified, the right to ses:SendEmail, and who may get mails (the sandbox)"
        );
        Ok(Checked {
            found: Some(found),
            by_hand: Some(by_hand),
        })
    }
}
