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
    /// Prints what would be sent, and sends nothing; what Pulse tells stays for everybody else
    #[arg(long)]
    pub dry_run: bool,
    /// Does as if this happened to one task now, sends what it asks for even if that was sent before, and ends
    #[arg(long, value_name = "ID", requires = "status")]
    pub task: Option<String>,
    /// What happened to it, such as task-failed
    #[arg(long, value_name = "STATUS", requires = "task", value_parser = status)]
    pub status: Option<Status>,
    /// Which artifact it made, for artifact-created
    #[arg(long, value_name = "NAME", requires = "task")]
    pub artifact: Option<String>,
    /// Seconds that work in flight is given after SIGTERM
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
    /// List who is sent nothing for a day, since nothing reaches them; or unmute one of them
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
