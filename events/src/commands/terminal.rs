//! Confirmations and progress on the terminal, if there is one.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

/// The interval at which progress is drawn while it does not change.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// Asks for a confirmation before `what` is dropped, unless `yes` confirms it. Fails without a terminal and without `yes`.
pub(super) fn confirm_drop(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("drop {what} permanently"),
        &format!("{what} would be dropped permanently"),
        "dropped",
        yes,
    )
}

/// As [`confirm_drop`], before directories are removed.
pub(super) fn confirm_removal(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("remove {what} permanently"),
        &format!("{what} would be removed permanently"),
        "removed",
        yes,
    )
}

/// As [`confirm_drop`], before `what` is sent.
pub(super) fn confirm_sending(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("send {what}"),
        &format!("{what} would be sent"),
        "sent",
        yes,
    )
}

/// Asks `question`. `consequence` begins the error without a terminal, and `participle` ends that of a refusal.
fn confirm(question: &str, consequence: &str, participle: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!("{consequence}: pass --yes to confirm");
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}? [y/N] ")
        .and_then(|()| stderr.flush())
        .context("cannot ask for the confirmation")?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("cannot read the confirmation")?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    bail!("nothing was {participle}")
}

/// A line of progress on a terminal, which is cleared when it is dropped. Without a terminal nothing is shown.
pub(super) fn progress() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    line.enable_steady_tick(TICK);
    line
}
