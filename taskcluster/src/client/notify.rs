//! The notify service.

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Taskcluster, TaskclusterError, call::Call};

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// The recipient.
    pub address: String,
    /// Its subject, up to 255 characters.
    pub subject: String,
    /// Its text, Markdown, up to 102,400 characters.
    pub content: String,
    /// What it looks like.
    pub template: EmailTemplate,
}

/// What a mail looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmailTemplate {
    /// A narrow column with Taskcluster's frame.
    Simple,
    /// As wide as the window.
    Fullscreen,
}

/// The outcome of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailed {
    /// It is on its way.
    Sent,
    /// The same mail was sent a short time before, so this one was not.
    Discarded,
}

impl Taskcluster {
    /// Sends a mail (`notify.email`). [`TaskclusterError::DenylistedAddress`] where the address wants none.
    pub async fn email(&self, email: &Email) -> Result<Mailed, TaskclusterError> {
        let Email {
            address,
            subject,
            content,
            template,
        } = email;
        let template = match template {
            EmailTemplate::Simple => "simple",
            EmailTemplate::Fullscreen => "fullscreen",
        };
        let body = json!({ "address": address, "subject": subject, "content": content, "template": template });
        let answer = self
            .call(&Call::with_body(
                "notify.email",
                Method::POST,
                &["email"],
                &body,
            ))
            .await?;
        Ok(if answer.response.status == StatusCode::NO_CONTENT {
            Mailed::Discarded
        } else {
            Mailed::Sent
        })
    }
}
