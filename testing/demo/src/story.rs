//! Tells a build's steps as they happen, from the same events that are logged.

use std::fmt::Write as _;

use parking_lot::Mutex;

use jiff::Timestamp;
use observe::log::Fields;
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

/// Prints each event that has a `step`, with the seconds since the story began.
pub struct Story {
    begun: Timestamp,
    now: fn() -> Timestamp,
    out: Mutex<Box<dyn std::io::Write + Send>>,
}

impl Story {
    /// A story that begins now.
    pub fn new(now: fn() -> Timestamp, out: Box<dyn std::io::Write + Send>) -> Self {
        Self {
            begun: now(),
            now,
            out: Mutex::new(out),
        }
    }

    /// Adds a line that is not an event.
    pub fn line(&self, step: &str, text: &str) {
        let seconds = (self.now)().duration_since(self.begun).as_secs_f64();
        let mut line = String::new();
        // Only this process's own words and numbers come here, but titles may be among them.
        let text = runtime::sanitize::one_line(text, 1000);
        let _ = writeln!(line, "{seconds:>7.2} s  {step:<10} {text}");
        let mut out = self.out.lock();
        // A reader that has gone (`| head`) ends the story, not the build.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

impl<S: Subscriber> Layer<S> for &'static Story {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = |name: &str| fields.0.get(name).and_then(Value::as_str);
        let step = ["step", "state", "outcome"].into_iter().find_map(text);
        if let (Some(step), Some(message)) = (step, text("message")) {
            self.line(step, message);
        }
    }
}
