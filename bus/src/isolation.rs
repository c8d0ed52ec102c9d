//! Keeping a message that may kill its process apart from the others.
//!
//! # Why a suspect is alone
//!
//! When a process dies, the bus sees the same of every message that the process held: taken and not settled. Which of
//! them did it, if any, nobody can tell. Were they all taken together again and again, one that aborts its process
//! would drag the others along until all of them had died as often as the policy allows, and all were blamed.
//!
//! So a message that was taken twice in a row without being settled ([`crate::POISON_SUSPECT_DELIVERIES`]) is a
//! suspect. The backend hands a suspect out alone, and the consumer that got it asks for isolation: every consumer on
//! this bus (that is, in this process) stops reserving and finishes what it holds; then the suspect is handled; then
//! all go on. If the process dies now, only the suspect is counted. An innocent one survives its turn and its count
//! begins again.
//!
//! Two suspects at once would share their fate again: the second is given back untouched, and comes when the first is
//! done. Other processes are not concerned.

use tokio::sync::watch;

/// How many consumers may hold messages, and whether they are asked to finish.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    present: usize,
    wanted: bool,
}

/// Shared by all consumers on one bus of one process.
#[derive(Debug, Default)]
pub struct Isolation {
    state: watch::Sender<State>,
}

impl Isolation {
    /// Joins those who may hold messages; `None` while a suspect is, or wants to be, alone.
    pub(crate) fn enter(&self) -> Option<ActivePermit<'_>> {
        let entered = self.state.send_if_modified(|state| {
            state.present += usize::from(!state.wanted);
            !state.wanted
        });
        entered.then(|| ActivePermit(self))
    }

    /// Asks everyone to leave; `None` when a suspect did so already.
    pub(crate) fn begin(&self) -> Option<ExclusivePermit<'_>> {
        let begun = self
            .state
            .send_if_modified(|state| !std::mem::replace(&mut state.wanted, true));
        begun.then(|| ExclusivePermit(self))
    }

    /// Whether a suspect is, or wants to be, alone.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.borrow().wanted
    }

    /// Resolves when a suspect wants to be alone (`true`), or no more (`false`).
    pub(crate) async fn until_wanted(&self, wanted: bool) {
        // The sender is ours, so it lives.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.wanted == wanted)
            .await;
    }

    /// Resolves when everyone has left.
    pub(crate) async fn until_empty(&self) {
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.present == 0)
            .await;
    }
}

/// While it lives, its consumer may hold messages.
#[derive(Debug)]
pub(crate) struct ActivePermit<'q>(&'q Isolation);

impl Drop for ActivePermit<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.present -= 1);
    }
}

/// While it lives, nobody may enter.
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
        assert!(isolation.until_wanted(false).now_or_never().is_none());
        drop(alone);
        isolation.until_wanted(false).await;
        assert!(isolation.enter().is_some());
    }
}
