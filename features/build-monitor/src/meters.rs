//! The metrics of a monitor.

use metrics::Counter;

/// The counters of one monitor.
pub(crate) struct Meters {
    /// Received messages.
    pub(crate) messages: Counter,
    /// Of these, those that could not be read.
    pub(crate) parse_errors: Counter,
    /// Events and messages that were put in the buffer.
    pub(crate) accepted: Counter,
    /// Of these, those that were dropped, since handlers were too slow.
    pub(crate) dropped: Counter,
    /// Handlers that failed, panicked, or took too long.
    pub(crate) failed: Counter,
}

impl Meters {
    /// Monitors without a label are counted together.
    pub(crate) fn new(label: Option<&str>) -> Self {
        let label = label.unwrap_or("random").to_owned();
        let counter = |name: &'static str| metrics::counter!(name, "label" => label.clone());
        Self {
            messages: counter("build_monitor_messages_total"),
            parse_errors: counter("build_monitor_parse_errors_total"),
            accepted: counter("build_monitor_accepted_total"),
            dropped: counter("build_monitor_dropped_total"),
            failed: counter("build_monitor_handlers_failed_total"),
        }
    }
}
