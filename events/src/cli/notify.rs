//! Options of `events notify`.

use clap::{Args, Command, Subcommand, error::ErrorKind};
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
    /// Grace period in seconds for work in flight after SIGTERM
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub grace: u64,
    /// An action instead of notifying.
    #[command(subcommand)]
    pub action: Option<NotifyAction>,
}

impl Notify {
    /// Whether the command runs until a signal, and sends notifications.
    pub fn runs(&self) -> bool {
        !self.dry_run && self.action.is_none()
    }

    /// Refuses `--dry-run` before an action: the action would ignore it, and send. With clap alone an action could conflict
    /// with all options of the notifier, those of its deployment too, or with none.
    pub fn check(&self) -> Result<(), clap::Error> {
        if !self.dry_run || self.action.is_none() {
            return Ok(());
        }
        Err(Self::augment_args(Command::new("events notify")).error(
            ErrorKind::ArgumentConflict,
            "--dry-run cannot be used before an action; preview one task with `events notify replay --dry-run TASK STATUS`",
        ))
    }
}

/// An action of `events notify`.
#[derive(Debug, Subcommand)]
pub enum NotifyAction {
    /// Send the notifications of one task now, even if they were sent before
    Replay(Replay),
    /// List the recipients that are muted, since no notification reaches them
    Muted,
    /// Unmute a recipient
    Unmute {
        /// Channel of the recipient, as `muted` lists it
        channel: String,
        /// Recipient, as `muted` lists it
        recipient: String,
    },
}

/// Options of `events notify replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Id of the task
    #[arg(value_name = "TASK")]
    pub task: String,
    /// Status of the task, such as task-failed
    #[arg(value_name = "STATUS", value_parser = status)]
    pub status: Status,
    /// Artifact of the task, for artifact-created
    #[arg(long, value_name = "NAME")]
    pub artifact: Option<String>,
    /// Preview of the notifications; nothing is sent
    #[arg(long)]
    pub dry_run: bool,
}

fn status(text: &str) -> Result<Status, String> {
    Status::named(text).ok_or_else(|| {
        format!(
            "expected one of {}",
            Status::ALL.map(Status::name).join(", ")
        )
    })
}
