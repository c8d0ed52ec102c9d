//! Options of `events telemetry`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use commit_telemetry::Repository;

/// Options of `events telemetry`.
#[derive(Debug, Args)]
pub struct Telemetry {
    /// The action.
    #[command(subcommand)]
    pub action: TelemetryAction,
    /// Log lines for every step
    #[arg(long, global = true)]
    pub debug: bool,
    /// Back-outs by the predecessor's rules alone, for figures that compare with its figures: `Revert "…"` is no
    /// back-out then (TELEMETRY_CLASSIC=1 has the same effect)
    #[arg(long, global = true)]
    pub classic: bool,
}

/// An action of `events telemetry`.
#[derive(Debug, Subcommand)]
pub enum TelemetryAction {
    /// Send the pings of the pushes in our queue on Pulse, and exit when the queue is empty
    ProcessQueueMessages(ProcessQueueMessages),
    /// Print the ping of one changeset, and send nothing
    DumpTelemetry(DumpTelemetry),
    /// Send the pings of a part of a repository's pushlog
    BackfillPushlog(BackfillPushlog),
}

/// Options of `events telemetry process-queue-messages`.
#[derive(Debug, Args)]
pub struct ProcessQueueMessages {
    /// Preview of the pings: they are printed and not sent, and every message stays in the queue
    #[arg(long, conflicts_with = "follow")]
    pub no_send: bool,
    /// Seconds without a message after which the queue counts as empty
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub timeout: Duration,
    /// Endless run, which waits for further messages
    #[arg(long)]
    pub follow: bool,
    /// File for messages that can never be processed; else TELEMETRY_DEAD_LETTERS, else
    /// ~/.local/state/code-review-events/telemetry/dead-letters.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "no_send")]
    pub dead_letters: Option<PathBuf>,
}

/// Options of `events telemetry dump-telemetry`.
#[derive(Debug, Args)]
pub struct DumpTelemetry {
    /// Id of the changeset, or a prefix of it
    pub node: String,
    /// URL of the repository; else TARGET_REPO, else mozilla-central
    #[arg(long, value_name = "URL")]
    pub target_repo: Option<Repository>,
}

/// Options of `events telemetry backfill-pushlog`.
#[derive(Debug, Args)]
pub struct BackfillPushlog {
    /// URL of the repository, such as that of mozilla-central on hg.mozilla.org
    #[arg(value_name = "REPO_URL")]
    pub repository: Repository,
    /// Number of the push before the first one
    pub start: u64,
    /// Number of the last push
    pub end: u64,
    /// Preview of the pings: they are printed and not sent
    #[arg(long)]
    pub no_send: bool,
    /// Confirmation without a prompt
    #[arg(long)]
    pub yes: bool,
    /// Continuation of an earlier run that was stopped
    #[arg(long, conflicts_with = "no_send")]
    pub resume: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds, such as 1 or 0.5".to_owned())
}
