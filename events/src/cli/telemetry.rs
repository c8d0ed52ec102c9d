//! Options of `events telemetry`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use commit_telemetry::Repository;

/// Options of `events telemetry`.
#[derive(Debug, Args)]
pub struct Telemetry {
    /// What to do.
    #[command(subcommand)]
    pub action: TelemetryAction,
    /// Tells of every step
    #[arg(long, global = true)]
    pub debug: bool,
    /// Classify back-outs by the predecessor's rules alone, so that figures compare with its: `Revert "…"` is none of them
    /// (TELEMETRY_CLASSIC=1 does the same)
    #[arg(long, global = true)]
    pub classic: bool,
}

/// What to do with pings.
#[derive(Debug, Subcommand)]
pub enum TelemetryAction {
    /// Sends the pings of the pushes that wait in our queue on Pulse, and ends when the queue is empty
    ProcessQueueMessages(ProcessQueueMessages),
    /// Prints the ping of one changeset, and sends nothing
    DumpTelemetry(DumpTelemetry),
    /// Sends the pings of a part of a repository's pushlog
    BackfillPushlog(BackfillPushlog),
}

/// Options of `events telemetry process-queue-messages`.
#[derive(Debug, Args)]
pub struct ProcessQueueMessages {
    /// Prints the pings and sends none; every message stays in the queue
    #[arg(long, conflicts_with = "follow")]
    pub no_send: bool,
    /// Seconds without a message after which the queue counts as empty
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub timeout: Duration,
    /// Stays, and waits for what comes
    #[arg(long)]
    pub follow: bool,
    /// The file that keeps messages which can never be worked off; else TELEMETRY_DEAD_LETTERS, else
    /// ~/.local/state/code-review-events/telemetry/dead-letters.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "no_send")]
    pub dead_letters: Option<PathBuf>,
}

/// Options of `events telemetry dump-telemetry`.
#[derive(Debug, Args)]
pub struct DumpTelemetry {
    /// The id of the changeset, or the beginning of it
    pub node: String,
    /// The repository; else TARGET_REPO, else mozilla-central
    #[arg(long, value_name = "URL")]
    pub target_repo: Option<Repository>,
}

/// Options of `events telemetry backfill-pushlog`.
#[derive(Debug, Args)]
pub struct BackfillPushlog {
    /// The address of the repository, such as that of mozilla-central on hg.mozilla.org
    #[arg(value_name = "REPO_URL")]
    pub repository: Repository,
    /// The push after which to begin
    pub start: u64,
    /// The last push
    pub end: u64,
    /// Prints the pings and sends none
    #[arg(long)]
    pub no_send: bool,
    /// Does not ask before it sends
    #[arg(long)]
    pub yes: bool,
    /// Goes on where an earlier run of the same was stopped
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
