//! Mails, sent through Taskcluster's notify service.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome};
use taskcluster::{Email, Mailed, Taskcluster, TaskclusterError};
use tracing::{info, warn};

/// Handles `mails`. The service drops a mail that it sent shortly before, so a repeated one arrives once.
pub struct Mailer {
    taskcluster: Taskcluster,
}

impl Mailer {
    /// Sends through the notify service of this deployment.
    pub fn new(taskcluster: Taskcluster) -> Self {
        Self { taskcluster }
    }
}

#[async_trait]
impl Handler<Email> for Mailer {
    type Error = TaskclusterError;

    async fn handle(&self, email: Email, _cx: &Context) -> Result<Outcome, TaskclusterError> {
        match self.taskcluster.email(&email).await {
            Ok(Mailed::Sent) => info!(subject = email.subject, "mail sent"),
            Ok(Mailed::Discarded) => info!(
                subject = email.subject,
                "mail dropped: taskcluster sent the same one shortly before"
            ),
            Err(TaskclusterError::DenylistedAddress) => {
                warn!(
                    address = email.address,
                    "mail dropped: the address is on the denylist of taskcluster"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(Outcome::Done)
    }
}
