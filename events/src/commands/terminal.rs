//! Confirmations and progress on the terminal, if there is one.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context as _, bail};

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

/// A line that is rewritten on a terminal while a command runs. Without a terminal nothing is printed.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: false }
    }

    pub(super) fn show(&mut self, text: &str) {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            // Erase the rest of the line, which may have been longer. An error means that the terminal is gone.
            let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = writeln!(io::stderr());
        }
    }
}
