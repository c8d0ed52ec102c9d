use std::time::Duration;

use metrics::{Counter, Histogram};

/// The metrics of the pushes to a mirror.
struct MirrorMeters {
    pushed: Counter,
    refused: Counter,
    /// Seconds of a push, whatever its outcome.
    duration: Histogram,
}

impl MirrorMeters {
    fn new(mirror: &str) -> Self {
        let pushes = |outcome: &'static str| {
            let mirror = mirror.to_owned();
            metrics::counter!("mirror_pushes_total", "mirror" => mirror, "outcome" => outcome)
        };
        Self {
            pushed: pushes("pushed"),
            refused: pushes("refused"),
            duration: metrics::histogram!("mirror_push_seconds", "mirror" => mirror.to_owned()),
        }
    }

    fn count(&self, pushed: bool, duration: Duration) {
        let outcome = if pushed { &self.pushed } else { &self.refused };
        outcome.increment(1);
        self.duration.record(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_to_a_mirror_are_counted_by_outcome() {
        observe::metrics::install();
        let meters = MirrorMeters::new("git");
        meters.count(true, Duration::from_millis(300));
        meters.count(true, Duration::from_secs(3));
        let text = observe::metrics::render();
        for line in [
            "mirror_pushes_total{mirror=\"git\",outcome=\"pushed\"} 2",
            "mirror_pushes_total{mirror=\"git\",outcome=\"refused\"} 0",
            "mirror_push_seconds_bucket{mirror=\"git\",le=\"0.5\"} 1",
            "mirror_push_seconds_bucket{mirror=\"git\",le=\"10\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
