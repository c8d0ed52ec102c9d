//! Options of `events notify`.

use clap::{Args, Subcommand};
use notify::Status;

use super::Deployment;

/// Options of `events notify`.
#[derive(Debug, Args)]
pub struct Notify {
    /// The deployment of the notifier. The environment alone can be enough.
    #[command(flatten)]
    pub deployment: Deployment,
    /// Preview of the notifications; nothing is sent, and all messages on Pulse stay for other consumers
    #[arg(long)]
    pub dry_run: bool,
    /// Task whose notifications are sent now, even if they were sent before
    #[arg(long, value_name = "ID", requires = "status")]
    pub task: Option<String>,
    /// Status of that task, such as task-failed
    #[arg(long, value_name = "STATUS", requires = "task", value_parser = status)]
    pub status: Option<Status>,
    /// Artifact of that task, for artifact-created
    #[arg(long, value_name = "NAME", requires = "task")]
    pub artifact: Option<String>,
    /// Grace period in seconds for work in flight after SIGTERM
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub grace: u64,
    /// An action instead of notifying.
    #[command(subcommand)]
    pub action: Option<NotifyAction>,
}

impl Notify {
    /// Whether the command runs until a signal.
    pub fn runs(&self) -> bool {
        !self.dry_run && self.task.is_none() && self.action.is_none()
    }
}

/// An action of `events notify`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NotifyAction {
    /// List the recipients that are muted for a day, since no notification reaches them; or unmute one
    Muted {
        /// Recipient to unmute, as the list names it
        #[arg(long, num_args = 2, value_names = ["CHANNEL", "RECIPIENT"])]
        unmute: Vec<String>,
    },
}

fn status(text: &str) -> Result<Status, String> {
    Status::named(text).ok_or_else(|| {
        format!(
            "expected one of {}",
            Status::ALL.map(Status::name).join(", ")
        )
    })
}
