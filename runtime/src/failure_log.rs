//! Logs a failure once at each change of state.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// The most kinds of failure that are known: a kind may come from foreign text.
const MAX_KINDS: usize = 100;

/// The kinds of failure that one thing has had since it worked last. The first failure of a kind is to be logged, and the
/// recovery. Clones share their state.
///
/// A kind can be an enum, [`std::mem::discriminant`] of an error, or a text. `()` stands for the only one.
#[derive(Debug, Clone)]
pub struct FailureLog<K = ()>(Arc<Mutex<HashSet<K>>>);

impl<K> Default for FailureLog<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash> FailureLog<K> {
    /// Records a failure. True if it is to be logged: the first of its kind since the recovery, up to 100 kinds.
    pub fn should_log(&self, kind: K) -> bool {
        let mut logged = self.0.lock();
        logged.len() < MAX_KINDS && logged.insert(kind)
    }

    /// Records a success. True if it is to be logged: it ends an outage.
    pub fn recovered(&self) -> bool {
        let mut logged = self.0.lock();
        let was_failing = !logged.is_empty();
        logged.clear();
        was_failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_logged_once_until_the_recovery() {
        let log = FailureLog::default();
        assert!(!log.recovered(), "it did not fail");
        let logged =
            ["away", "away", "refused", "away", "refused"].map(|kind| log.should_log(kind));
        assert_eq!(logged, [true, false, true, false, false]);
        assert!(log.clone().recovered() && !log.recovered());
        assert!(log.should_log("away"), "it is another outage");
    }

    #[test]
    fn number_of_kinds_is_limited() {
        let log = FailureLog::default();
        let logged = (0..1000).filter(|kind| log.should_log(*kind)).count();
        assert_eq!(logged, MAX_KINDS);
    }
}
