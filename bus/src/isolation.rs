//! Isolation of a message that may kill its process.
//!
//! # Why a suspect is alone
//!
//! When a process dies, all its messages in flight look alike to the bus: delivered and not settled. Nobody can tell which
//! of them is the poison message, if any is. If they were delivered together each time, a poison message would abort its
//! process again and again, and the others would become dead letters with it.
//!
//! So a message whose last two deliveries were not settled ([`crate::POISON_SUSPECT_DELIVERIES`]) is suspected of being
//! poison: a suspect. The backend delivers a suspect alone, and its consumer requests isolation: every consumer on this bus
//! (that is, in this process) stops reserving and settles its messages in flight. Then the suspect is handled, and then all
//! go on. If the process dies meanwhile, only the suspect counts an unsettled delivery. A suspect that is not a poison
//! message is settled, and its count begins again.
//!
//! Two suspects at once would die together again. So the second is released, and delivered when the first is done. Other
//! processes go on.

use tokio::sync::watch;

/// The number of consumers that may have messages in flight, and whether they have to finish.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    present: usize,
    wanted: bool,
}

/// A reader-writer lock of a process: consumers share it, and a suspect has it alone.
#[derive(Debug, Default)]
pub struct Isolation {
    state: watch::Sender<State>,
}

impl Isolation {
    /// Permits a consumer to have messages in flight; `None` while a suspect is alone, or waits for that.
    pub(crate) fn enter(&self) -> Option<ActivePermit<'_>> {
        let entered = self.state.send_if_modified(|state| {
            state.present += usize::from(!state.wanted);
            !state.wanted
        });
        entered.then(|| ActivePermit(self))
    }

    /// Requests that all consumers leave; `None` when another suspect has requested it.
    pub(crate) fn begin(&self) -> Option<ExclusivePermit<'_>> {
        let begun = self
            .state
            .send_if_modified(|state| !std::mem::replace(&mut state.wanted, true));
        begun.then(|| ExclusivePermit(self))
    }

    /// Whether a suspect is alone, or waits for that.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.borrow().wanted
    }

    /// Resolves when isolation is requested.
    pub(crate) async fn until_wanted(&self) {
        // It fails only without a sender, and `self` has one.
        let _ = self.state.subscribe().wait_for(|state| state.wanted).await;
    }

    /// Changes from now on, also those that are undone before anybody waits for them. The present state is none of them.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.state.subscribe())
    }

    /// Resolves when all consumers have left.
    pub(crate) async fn until_empty(&self) {
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.present == 0)
            .await;
    }
}

/// Changes of an isolation.
pub(crate) struct Changes(watch::Receiver<State>);

impl Changes {
    /// Resolves when there was one.
    pub(crate) async fn next(&mut self) {
        // It fails only without a sender, which outlives its consumers.
        let _ = self.0.changed().await;
    }
}

/// Until it is dropped, its consumer may have messages in flight.
#[derive(Debug)]
pub(crate) struct ActivePermit<'q>(&'q Isolation);

impl Drop for ActivePermit<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.present -= 1);
    }
}

/// Until it is dropped, no consumer may enter.
#[derive(Debug)]
pub(crate) struct ExclusivePermit<'q>(&'q Isolation);

impl Drop for ExclusivePermit<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.wanted = false);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn isolation_that_has_ended_again_is_a_change() {
        let isolation = Isolation::default();
        let mut changes = isolation.changes();
        assert!(changes.next().now_or_never().is_none());
        drop(isolation.begin());
        assert!(changes.next().now_or_never().is_some());
        assert!(changes.next().now_or_never().is_none(), "it was seen");
    }

    #[tokio::test]
    async fn present_state_is_no_change_and_its_end_is_one() {
        let isolation = Isolation::default();
        let alone = isolation.begin();
        let mut changes = isolation.changes();
        assert!(changes.next().now_or_never().is_none());
        drop(alone);
        assert!(changes.next().now_or_never().is_some());
    }

    #[tokio::test]
    async fn poison_suspect_waits_until_all_have_left_and_nobody_enters_before_it_is_done() {
        let isolation = Isolation::default();
        let first = isolation.enter();
        let second = isolation.enter();
        let alone = isolation.begin();
        assert!(first.is_some() && second.is_some() && alone.is_some());
        assert!(isolation.begin().is_none(), "one suspect at a time");
        assert!(isolation.enter().is_none());
        drop(first);
        assert!(
            isolation.until_empty().now_or_never().is_none(),
            "one is still there"
        );
        drop(second);
        isolation.until_empty().await;
        assert!(isolation.is_wanted());
        drop(alone);
        assert!(!isolation.is_wanted());
        assert!(isolation.enter().is_some());
    }
}
