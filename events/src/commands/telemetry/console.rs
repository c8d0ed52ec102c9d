//! The terminal: a progress bar, and the lines above it.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use commit_telemetry::{Ping, PrintPing};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jiff::Timestamp;
use runtime::sanitize;
use runtime::{Clock, SystemClock};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::commands::{table::span, terminal::TICK};

/// The interval of progress lines, where standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const BAR: &str = "{wide_bar} {line}";

/// Writes log lines, pings and the bar so that they do not overwrite one another.
#[derive(Clone)]
pub(super) struct Console {
    bars: MultiProgress,
}

impl Console {
    /// Also installs the logger of the process, which writes to standard error.
    pub(super) fn new(debug: bool) -> anyhow::Result<Self> {
        let console = Self {
            bars: MultiProgress::new(),
        };
        let filter = if debug {
            "info,commit_telemetry=debug,pulse=debug"
        } else {
            "info"
        };
        let log = crate::log_layer_to(filter, console.clone())?;
        tracing_subscriber::registry()
            .with(log)
            .with(observe::sentry::layer())
            .init();
        Ok(console)
    }

    /// Prints each ping on a line of standard output.
    pub(super) fn ping_printer(&self) -> PrintPing {
        let console = self.clone();
        Arc::new(move |ping: &Ping| {
            let line = serde_json::to_string(ping)?;
            console
                .bars
                .suspend(|| crate::print(&sanitize::json(&line)))
                .map_err(io::Error::other)
        })
    }

    /// Prints a line on standard error that is not a log line.
    pub(super) fn print(&self, text: &str) {
        // The terminal may be closed.
        let _ = self
            .bars
            .suspend(|| writeln!(io::stderr(), "{}", sanitize::plain(text)));
    }

    /// Shows the progress: a bar on a terminal, else a line each [`LINE_INTERVAL`].
    pub(super) fn progress(&self, pushes: u64) -> anyhow::Result<Progress<'_>> {
        let bar = io::stderr()
            .is_terminal()
            .then(|| self.bars.add(ProgressBar::new(pushes)));
        if let Some(bar) = &bar {
            let text = |state: &ProgressState, output: &mut dyn std::fmt::Write| {
                // The bar is shown without its text.
                let _ = output.write_str(&line(
                    state.pos(),
                    state.len().unwrap_or_default(),
                    state.elapsed(),
                ));
            };
            bar.set_style(ProgressStyle::with_template(BAR)?.with_key("line", text));
            bar.enable_steady_tick(TICK);
        }
        let now = SystemClock.now();
        Ok(Progress {
            console: self,
            bar,
            pushes,
            done: 0,
            begun: now,
            printed: now,
        })
    }
}

/// The progress of a backfill. Prints a last line when it is dropped.
pub(super) struct Progress<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
    pushes: u64,
    done: u64,
    begun: Timestamp,
    /// The time of the last line.
    printed: Timestamp,
}

impl Progress<'_> {
    /// Counts a push.
    pub(super) fn push(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let now = SystemClock.now();
        if now.duration_since(self.printed).unsigned_abs() >= LINE_INTERVAL {
            self.printed = now;
            self.console.print(&line(
                self.done,
                self.pushes,
                now.duration_since(self.begun).unsigned_abs(),
            ));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = SystemClock.now().duration_since(self.begun).unsigned_abs();
        self.console.print(&line(self.done, self.pushes, took));
    }
}

fn line(done: u64, pushes: u64, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let left = Duration::try_from_secs_f64(pushes.saturating_sub(done) as f64 / rate);
    let left = left.map_or_else(|_| "unknown time".to_owned(), span);
    format!("{done}/{pushes} pushes, {rate:.1}/s, {left} left")
}

/// The writer of log lines.
pub(super) struct AboveTheBar(MultiProgress);

impl Write for AboveTheBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = AboveTheBar;

    fn make_writer(&'a self) -> AboveTheBar {
        AboveTheBar(self.bars.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_line_has_count_speed_and_remaining_time() {
        assert_eq!(
            line(500, 2000, Duration::from_secs(10)),
            "500/2000 pushes, 50.0/s, 30 s left"
        );
        assert_eq!(
            line(0, 2000, Duration::from_secs(10)),
            "0/2000 pushes, 0.0/s, unknown time left"
        );
        assert_eq!(
            line(2000, 2000, Duration::from_secs(10)),
            "2000/2000 pushes, 200.0/s, 0.0 s left"
        );
    }
}
