//! How long the messages of a dead worker were without one.

use std::time::Duration;

use jiff::Timestamp;

/// Waits from the signal to a worker (or, when it took the message after the signal, from then) to the moment at which
/// another one began with a message that it held.
///
/// A message counts when a handler of the dead worker had begun with it. One that was reserved and not begun leaves no
/// trace outside the bus.
#[derive(Debug, Default)]
pub struct Redelivery {
    waits: Vec<(Timestamp, Timestamp)>,
}

impl Redelivery {
    /// Notes one wait.
    pub fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.waits.push((from, to));
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.waits.len()
    }

    /// The longest wait, without the times in which Redis was away.
    pub fn longest(&self, downtimes: &[(Timestamp, Timestamp)]) -> Duration {
        let wait = |(from, to): &(Timestamp, Timestamp)| {
            let away = downtimes
                .iter()
                .map(|(gone, back)| between(*from.max(gone), *to.min(back)))
                .sum();
            between(*from, *to).saturating_sub(away)
        };
        self.waits.iter().map(wait).max().unwrap_or_default()
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_wait_excludes_downtime_of_redis() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut redelivery = Redelivery::default();
        assert_eq!(redelivery.longest(&[]), Duration::ZERO);
        redelivery.add(at(10), at(12));
        redelivery.add(at(20), at(27));
        assert_eq!(redelivery.longest(&[]), Duration::from_secs(7));
        assert_eq!(
            redelivery.longest(&[(at(1), at(3)), (at(22), at(26))]),
            Duration::from_secs(3)
        );
        assert_eq!(
            redelivery.longest(&[(at(5), at(11)), (at(15), at(30))]),
            Duration::from_secs(1)
        );
    }
}
