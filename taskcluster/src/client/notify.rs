//! The notify service.

use serde::Serialize;

use super::{Taskcluster, TaskclusterError};

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Email {
    /// Whom it is for.
    pub address: String,
    /// Its subject, up to 255 characters.
    pub subject: String,
    /// Its text, Markdown, up to 102,400 characters.
    pub content: String,
    /// What it looks like.
    pub template: EmailTemplate,
}

/// What a mail looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EmailTemplate {
    /// A narrow column with Taskcluster's frame.
    Simple,
    /// As wide as the window.
    Fullscreen,
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailed {
    /// It is on its way.
    Sent,
    /// The same mail was sent a short time before, so this one was not.
    Discarded,
}

impl Taskcluster {
    /// Sends a mail (`notify.email`). [`TaskclusterError::DenylistedAddress`] where the address wants none.
    pub async fn email(&self, _email: &Email) -> Result<Mailed, TaskclusterError> {
        unimplemented!()
    }
}
