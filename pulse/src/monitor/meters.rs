//! What a monitor counts.

use metrics::Counter;

/// The meters of one monitor.
pub(super) struct Meters {
    /// Messages that came.
    pub(super) messages: Counter,
    /// Of these, those that could not be read.
    pub(super) unreadable: Counter,
    /// Events and messages that were put in the buffer.
    pub(super) accepted: Counter,
    /// Events and messages that were never handed out, since handlers were too slow.
    pub(super) dropped: Counter,
    /// Handlers that failed, panicked, or took too long.
    pub(super) failed: Counter,
    /// How often the connection had to be opened again.
    pub(super) reconnects: Counter,
}

impl Meters {
    /// `label` is that of the monitor; those with a random one are counted together.
    pub(super) fn new(label: Option<&str>) -> Self {
        let label = label.unwrap_or("random").to_owned();
        let counter = |name: &'static str| metrics::counter!(name, "label" => label.clone());
        Self {
            messages: counter("pulse_monitor_messages_total"),
            unreadable: counter("pulse_monitor_unreadable_total"),
            accepted: counter("pulse_monitor_accepted_total"),
            dropped: counter("pulse_monitor_dropped_total"),
            failed: counter("pulse_monitor_handlers_failed_total"),
            reconnects: counter("pulse_monitor_reconnects_total"),
        }
    }
}
