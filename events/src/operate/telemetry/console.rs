//! The terminal: a bar, and the lines that go around it.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use commit_telemetry::{Ping, Show};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jiff::Timestamp;
use runtime::sanitize;
use runtime::{Clock, SystemClock};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::operate::table::span;

/// How often a line tells how far it is, where no bar can be shown.
const LINES: Duration = Duration::from_secs(10);
/// How often the bar tells how late it is.
const TICK: Duration = Duration::from_millis(500);
const BAR: &str = "{wide_bar} {line}";

/// Where log lines, pings and the bar go, without disturbing one another.
#[derive(Clone)]
pub(super) struct Console {
    bars: MultiProgress,
}

impl Console {
    /// Log lines of this process go to standard error from now on.
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

    /// Prints each ping on a line of its own.
    pub(super) fn show(&self) -> Show {
        let console = self.clone();
        Arc::new(move |ping: &Ping| {
            let line = serde_json::to_string(ping)?;
            console
                .bars
                .suspend(|| crate::print(&sanitize::json(&line)))
                .map_err(io::Error::other)
        })
    }

    /// Says something that is no log line.
    pub(super) fn say(&self, text: &str) {
        // A terminal that is gone needs no words.
        let _ = self
            .bars
            .suspend(|| writeln!(io::stderr(), "{}", sanitize::plain(text)));
    }

    /// Shows how far it is: a bar on a terminal, else a line now and then.
    pub(super) fn progress(&self, pushes: u64) -> anyhow::Result<Progress<'_>> {
        let bar = io::stderr()
            .is_terminal()
            .then(|| self.bars.add(ProgressBar::new(pushes)));
        if let Some(bar) = &bar {
            let told = |state: &ProgressState, words: &mut dyn std::fmt::Write| {
                // A bar without words is no failure.
                let _ = words.write_str(&line(
                    state.pos(),
                    state.len().unwrap_or_default(),
                    state.elapsed(),
                ));
            };
            bar.set_style(ProgressStyle::with_template(BAR)?.with_key("line", told));
            bar.enable_steady_tick(TICK);
        }
        let now = SystemClock.now();
        Ok(Progress {
            console: self,
            bar,
            pushes,
            done: 0,
            begun: now,
            said: now,
        })
    }
}

/// How far it is.
pub(super) struct Progress<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
    pushes: u64,
    done: u64,
    begun: Timestamp,
    said: Timestamp,
}

impl Progress<'_> {
    /// One more push is done.
    pub(super) fn push(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            return bar.inc(1);
        }
        let now = SystemClock.now();
        if now.duration_since(self.said).unsigned_abs() >= LINES {
            self.said = now;
            self.console.say(&line(
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
        self.console.say(&line(self.done, self.pushes, took));
    }
}

fn line(done: u64, pushes: u64, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(0.001);
    let left = Duration::try_from_secs_f64(pushes.saturating_sub(done) as f64 / rate);
    let left = left.map_or_else(|_| "unknown time".to_owned(), span);
    format!("{done}/{pushes} pushes, {rate:.1}/s, {left} left")
}

/// Writes log lines above the bar.
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
    fn a_line_tells_how_far_how_fast_and_how_long_it_takes() {
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
