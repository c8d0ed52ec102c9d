//! Options of `events notify`.

use clap::{Args, Subcommand};
use notify::Status;

use super::Deployment;

/// Options of `events notify`.
#[derive(Debug, Args)]
pub struct Notify {
    /// Where the configuration is; the environment alone can be enough.
    #[command(flatten)]
    pub deployment: Deployment,
    /// Preview only: nothing is sent, and messages on Pulse stay for everybody else
    #[arg(long)]
    pub dry_run: bool,
    /// Task to notify of now, even if its notifications were sent before
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
    /// Something else than to notify.
    #[command(subcommand)]
    pub action: Option<NotifyAction>,
}

impl Notify {
    /// Whether it runs until a signal.
    pub fn runs(&self) -> bool {
        !self.dry_run && self.task.is_none() && self.action.is_none()
    }
}

/// What else there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum NotifyAction {
    /// List recipients that are muted for a day, since nothing reaches them; or unmute one of them
    Muted {
        /// Recipient to send to again, as the list names it
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
