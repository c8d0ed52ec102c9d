//! The worker's progress, from the same events that are logged.

use jiff::Timestamp;
use observe::log::{Fields, Format};
use runtime::{Clock, SystemClock};
use tokio::sync::mpsc;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Something that the worker told.
pub struct Seen {
    pub at: Timestamp,
    pub step: Option<String>,
}

/// What the worker tells, as it comes.
pub type Watch = mpsc::UnboundedReceiver<Seen>;

struct Watcher(mpsc::UnboundedSender<Seen>);

impl<S: Subscriber> Layer<S> for Watcher {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let at = SystemClock.now();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = |name: &str| {
            fields
                .0
                .get(name)
                .and_then(serde_json::Value::as_str)
                .map(str::to_owned)
        };
        let _ = self.0.send(Seen {
            at,
            step: ["step", "state", "outcome"].into_iter().find_map(text),
        });
    }
}

/// Watches this process. Warnings are printed.
pub fn install() -> Watch {
    let (sender, watch) = mpsc::unbounded_channel();
    let warnings = observe::log::layer(Format::Text, "warn", std::io::stderr).expect("a filter");
    tracing_subscriber::registry()
        .with(warnings)
        .with(Watcher(sender))
        .init();
    watch
}
