//! The common part of both campaigns: their frame from the first signal handler to the report, what violates a promise,
//! and how an outcome is printed.

use std::{
    fmt::{Debug, Write as _},
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context, bail};
use runtime::{Clock, SystemClock};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::console::tell;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation<Kind> {
    /// Of which kind.
    pub kind: Kind,
    /// The subject: a message, build, dead letter, repository or process.
    pub key: String,
    /// The fault.
    pub what: String,
}

impl<Kind> Violation<Kind> {
    /// A violation.
    pub fn new(kind: Kind, key: String, what: String) -> Self {
        Self { kind, key, what }
    }
}

/// The number of violations of one kind.
pub fn count<Kind: PartialEq>(violations: &[Violation<Kind>], kind: Kind) -> usize {
    violations
        .iter()
        .filter(|violation| violation.kind == kind)
        .count()
}

/// The outcome of a campaign, also as its JSON line.
pub trait Outcome: Serialize {
    /// Whether nothing is wrong.
    fn passed(&self) -> bool;

    /// The outcome for people.
    fn table(&self) -> String;
}

/// A table of rows, and below it what is wrong.
pub fn table<Kind: Debug>(
    rows: impl IntoIterator<Item = (&'static str, String)>,
    violations: &[Violation<Kind>],
) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<20} {value}");
    }
    for Violation { kind, key, what } in violations {
        let _ = writeln!(text, "WRONG ({kind:?}) {key}: {what}");
    }
    text
}

/// A campaign whose processes run.
pub trait Campaign {
    /// What it finds.
    type Report: Outcome;

    /// Runs it to its last check.
    async fn run(&mut self) -> anyhow::Result<Self::Report>;

    /// Ends its processes.
    async fn end(self);
}

/// The seed that was given, or a random one.
pub fn seed(given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| SystemClock.random() >> 32)
}

/// Starts a campaign in a directory of its own, runs it, and cleans up after it. A signal ends it without a check. The
/// directory of one that failed is kept.
pub async fn conduct<C: Campaign>(
    start: impl AsyncFnOnce(&Path) -> anyhow::Result<C>,
) -> anyhow::Result<C::Report> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut directory = tempfile::Builder::new()
        .prefix("chaos-")
        .tempdir()
        .context("cannot make a directory")?;
    let mut campaign = start(directory.path()).await?;
    let outcome = tokio::select! {
        outcome = campaign.run() => Some(outcome),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    campaign.end().await;
    let Some(outcome) = outcome else {
        bail!("interrupted, nothing was checked")
    };
    if !outcome.as_ref().is_ok_and(Outcome::passed) {
        directory.disable_cleanup(true);
        tell(&format!(
            "logs and data are kept in {}",
            directory.path().display()
        ));
    }
    outcome
}

/// Prints an outcome. A reader that has seen enough (`| head`) is not a failure.
pub fn print(report: &impl Outcome, json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string(report)?
    } else {
        report.table()
    };
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
