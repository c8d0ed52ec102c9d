//! Metrics: counters, gauges and durations that any crate records through the `metrics` facade, as Prometheus reads them.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The upper bounds of the buckets of durations, in seconds: from a step without I/O to a long push.
const SECONDS: [f64; 10] = [
    0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0,
];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts recording. Later calls do nothing. Values from before are lost.
pub fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        // Only an empty list of buckets is refused.
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only when there is another recorder, which then records.
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// The time between two calls of [`upkeep`].
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Sorts the durations since the last call into their buckets. Until then each one takes memory of its own.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// All metrics, in Prometheus's text format; empty before [`install`].
pub fn render() -> String {
    HANDLE
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn metrics_are_rendered_with_their_labels() {
        super::install();
        metrics::counter!("things_total", "kind" => "good").increment(2);
        metrics::histogram!("work_seconds").record(0.3);
        let text = super::render();
        assert!(text.contains("things_total{kind=\"good\"} 2"), "{text}");
        assert!(text.contains("work_seconds_bucket{le=\"0.5\"} 1"), "{text}");
    }
}
