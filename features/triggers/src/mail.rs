//! Mails, sent through Taskcluster's notify service.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome};
use taskcluster::{Email, Mailed, Taskcluster, TaskclusterError};
use tracing::{info, warn};

/// Handles `mails`. The service drops a mail that it was asked for before, so one that is repeated arrives once.
pub struct Mailer {
    taskcluster: Taskcluster,
}

impl Mailer {
    /// Sends through this deployment.
    pub fn new(taskcluster: Taskcluster) -> Self {
        Self { taskcluster }
    }
}

#[async_trait]
impl Handler<Email> for Mailer {
    type Error = TaskclusterError;

    async fn handle(&self, email: Email, _cx: &Context) -> Result<Outcome, TaskclusterError> {
        match self.taskcluster.email(&email).await {
            Ok(Mailed::Sent) => info!(subject = email.subject, "mailed"),
            Ok(Mailed::Discarded) => info!(subject = email.subject, "mailed before, not again"),
            Err(TaskclusterError::DenylistedAddress) => {
                warn!(
                    address = email.address,
                    "taskcluster sends no mail to this address, it is on the denylist: dropped"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(Outcome::Done)
    }
}
