//! The person at the terminal, if there is one.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context as _, bail};

/// Asks whether `what` is to be thrown away. Where nobody can be asked, `yes` has to be said beforehand.
pub(super) fn confirm_drop(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("drop {what} permanently"),
        &format!("{what} would be dropped permanently"),
        "dropped",
        yes,
    )
}

/// As [`confirm_drop`], for directories.
pub(super) fn confirm_removal(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("remove {what} permanently"),
        &format!("{what} would be removed permanently"),
        "removed",
        yes,
    )
}

/// As [`confirm_drop`], before something is sent.
pub(super) fn confirm_sending(what: &str, yes: bool) -> anyhow::Result<()> {
    confirm(
        &format!("send {what}"),
        &format!("{what} would be sent"),
        "sent",
        yes,
    )
}

/// `question` is asked; `consequence` is the error where nobody can be asked.
fn confirm(question: &str, consequence: &str, participle: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!("{consequence}: say --yes if that is meant");
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}? [y/N] ")
        .and_then(|()| stderr.flush())
        .context("cannot ask")?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    bail!("nothing was {participle}")
}

/// A line on the terminal that is rewritten while something goes on. Nothing when nobody looks.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: false }
    }

    pub(super) fn say(&mut self, text: &str) {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            // Erases the rest of the line, which may have been longer. A terminal that is gone needs no progress.
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
