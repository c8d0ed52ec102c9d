//! A pool of the clones of a repository that are ready.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// An element of a [`Pool`].
pub(crate) trait Pooled {
    /// Runs when it goes back into the pool.
    fn put_back(&mut self);
}

/// Elements that are taken out, worked on, and put back.
#[derive(Debug)]
pub(crate) struct Pool<T: Pooled> {
    free: Mutex<Vec<T>>,
    /// The number of elements, with those that are taken out.
    total: AtomicUsize,
    changed: Notify,
}

impl<T: Pooled> Pool<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            total: AtomicUsize::new(0),
            changed: Notify::new(),
        })
    }

    pub(crate) fn add(&self, one: T) {
        self.total.fetch_add(1, Ordering::SeqCst);
        self.put_back(one);
    }

    /// Whether there are any, taken out or not; waits for the first one.
    pub(crate) async fn has_any(&self, timeout: Duration) -> bool {
        self.wait(timeout, || {
            (self.total.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await
        .is_some()
    }

    /// Takes one out as soon as one is free. It goes back when the guard is dropped.
    pub(crate) async fn take(self: &Arc<Self>, timeout: Duration) -> Option<PoolGuard<T>> {
        self.take_where(timeout, |_| true).await
    }

    /// As [`Self::take`], for one that is `wanted`.
    pub(crate) async fn take_where(
        self: &Arc<Self>,
        timeout: Duration,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<PoolGuard<T>> {
        let take = || {
            let mut free = self.free();
            let at = free.iter().position(&wanted)?;
            Some(PoolGuard {
                pool: Arc::clone(self),
                one: Some(free.remove(at)),
            })
        };
        self.wait(timeout, take).await
    }

    /// Takes one out together with the lock `turn`. The lock stays free while this waits for an element.
    pub(crate) async fn take_in_turn<'t>(
        self: &Arc<Self>,
        turn: &'t tokio::sync::Mutex<()>,
        timeout: Duration,
    ) -> Option<(tokio::sync::MutexGuard<'t, ()>, PoolGuard<T>)> {
        let taking = async {
            loop {
                let is_free = || (!self.free().is_empty()).then_some(());
                self.wait(timeout, is_free).await?;
                let turn = turn.lock().await;
                // Another task may have been faster.
                if let Some(one) = self.take(Duration::ZERO).await {
                    return Some((turn, one));
                }
            }
        };
        tokio::time::timeout(timeout, taking).await.ok()?
    }

    /// Takes out all that are free.
    pub(crate) fn empty(&self) -> Vec<T> {
        let all = std::mem::take(&mut *self.free());
        self.total.fetch_sub(all.len(), Ordering::SeqCst);
        all
    }

    async fn wait<R>(
        &self,
        timeout: Duration,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(result) = attempt() {
                    return result;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.ok()
    }

    fn put_back(&self, mut one: T) {
        one.put_back();
        self.free().push(one);
        self.changed.notify_waiters();
    }

    fn free(&self) -> MutexGuard<'_, Vec<T>> {
        self.free.lock()
    }
}

/// An element that was taken out of a [`Pool`].
#[derive(Debug)]
pub(crate) struct PoolGuard<T: Pooled> {
    pool: Arc<Pool<T>>,
    /// `None` once it is discarded.
    one: Option<T>,
}

impl<T: Pooled> PoolGuard<T> {
    /// Removes it from the pool permanently.
    pub(crate) fn discard(mut self) -> Option<T> {
        self.pool.total.fetch_sub(1, Ordering::SeqCst);
        self.one.take()
    }
}

impl<T: Pooled> Deref for PoolGuard<T> {
    type Target = T;

    #[expect(
        clippy::expect_used,
        reason = "only `discard` and `drop` empty it, and nothing comes after these"
    )]
    fn deref(&self) -> &T {
        self.one.as_ref().expect("it was not discarded")
    }
}

impl<T: Pooled> DerefMut for PoolGuard<T> {
    #[expect(
        clippy::expect_used,
        reason = "only `discard` and `drop` empty it, and nothing comes after these"
    )]
    fn deref_mut(&mut self) -> &mut T {
        self.one.as_mut().expect("it was not discarded")
    }
}

impl<T: Pooled> Drop for PoolGuard<T> {
    fn drop(&mut self) {
        if let Some(one) = self.one.take() {
            self.pool.put_back(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(600);

    struct Clone;

    impl Pooled for Clone {
        fn put_back(&mut self) {}
    }

    #[tokio::test]
    async fn waiting_for_a_clone_leaves_the_turn_to_other_pools() {
        let turn = tokio::sync::Mutex::new(());
        let [busy, idle] = [(); 2].map(|()| Pool::new());
        busy.add(Clone);
        idle.add(Clone);
        let worked_on = busy.take(TIMEOUT).await.expect("one is free");
        let waits = busy.take_in_turn(&turn, TIMEOUT);
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        let taken = idle.take_in_turn(&turn, TIMEOUT).now_or_never();
        drop(taken.flatten().expect("the turn is free"));
        drop(worked_on);
        assert!(waits.await.is_some());
    }
}
