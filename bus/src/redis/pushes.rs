//! Pushes that need a script. Pushes that arrive while runs are on their way share the next run: the busier the process, the
//! fewer exchanges with Redis a push needs. A single push is sent at once.

use std::{collections::VecDeque, io, sync::Arc};

use parking_lot::Mutex;

use redis::RedisResult;
use tokio::sync::oneshot;

use super::{
    connection::Connections,
    endpoint::is_broken,
    eval,
    scripts::{Call, Packed, Push, PushAnswer},
};

/// The maximum number of pushes in a run, and their approximate maximum size in bytes: a run blocks Redis.
const MAX_PUSHES: usize = 64;
const MAX_BYTES: usize = 1024 * 1024;

/// The maximum number of runs on their way. With two, Redis has the next run when it ends the first, and works while this
/// process answers the pushes of the first. With more, runs would only be smaller.
const MAX_RUNS: usize = 2;

/// The pushes of one process.
pub(super) struct Pushes(Arc<Shared>);

struct Shared {
    connections: Arc<Connections>,
    prefix: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of tasks that send runs.
    sending: usize,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    push: Packed,
    answer: oneshot::Sender<RedisResult<PushAnswer>>,
}

impl Pushes {
    pub(super) fn new(connections: Arc<Connections>, prefix: Arc<str>) -> Self {
        Self(Arc::new(Shared {
            connections,
            prefix,
            state: Mutex::default(),
        }))
    }

    pub(super) async fn push(&self, push: Packed) -> RedisResult<PushAnswer> {
        if push.messages.is_empty() {
            // Alone: Redis accepts records without messages when it is full.
            return self.0.send(&[push]).await?.pop().ok_or_else(no_answer);
        }
        let (answer, answered) = oneshot::channel();
        let idle = {
            let mut state = self.0.state.lock();
            state.waiting.push_back(Waiting { push, answer });
            let idle = state.sending < MAX_RUNS;
            state.sending += usize::from(idle);
            idle
        };
        if idle {
            // In a task of its own: the future of this push may be dropped, and the others must not wait for it.
            tokio::spawn(Arc::clone(&self.0).send_all());
        }
        answered.await.unwrap_or_else(|_| Err(no_answer()))
    }
}

/// The error of a push whose task ended, since the runtime ends.
fn no_answer() -> redis::RedisError {
    io::Error::new(
        io::ErrorKind::Interrupted,
        "the push was cancelled before redis answered",
    )
    .into()
}

/// A task that sends runs. When it panics or is cancelled, it no longer counts. If it was the last one, the pushes that wait
/// fail, since no task would answer them.
struct Run<'a>(&'a Mutex<State>);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.sending -= 1;
        if state.sending == 0 {
            state.waiting.clear();
        }
    }
}

impl Shared {
    /// Sends runs until no push waits.
    async fn send_all(self: Arc<Self>) {
        let run = Run(&self.state);
        loop {
            // Tasks that are about to push go first, so that their pushes are in this run.
            tokio::task::yield_now().await;
            let Some((pushes, waiting)) = self.next() else {
                // `next` has decremented the count, under the lock with which it found no push.
                return std::mem::forget(run);
            };
            match self.send(&pushes).await {
                Ok(answers) => {
                    for (waiting, answer) in waiting.into_iter().zip(answers) {
                        // It fails when the future of the push was dropped.
                        let _ = waiting.send(Ok(answer));
                    }
                }
                Err(error) => {
                    // Pushes that waited for a broken connection fail with it, and do not wait until the next one breaks.
                    let others = if is_broken(&error) {
                        std::mem::take(&mut self.state.lock().waiting)
                    } else {
                        VecDeque::new()
                    };
                    for waiting in waiting
                        .into_iter()
                        .chain(others.into_iter().map(|waiting| waiting.answer))
                    {
                        let _ = waiting.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// The pushes of the next run, with their callers; `None` when no push waits.
    #[expect(clippy::type_complexity, reason = "two columns of a table")]
    fn next(&self) -> Option<(Vec<Packed>, Vec<oneshot::Sender<RedisResult<PushAnswer>>>)> {
        let mut state = self.state.lock();
        let (mut pushes, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while pushes.len() < MAX_PUSHES && bytes < MAX_BYTES {
            let Some(Waiting { push, answer }) = state.waiting.pop_front() else {
                break;
            };
            bytes += push.size();
            pushes.push(push);
            answers.push(answer);
        }
        if pushes.is_empty() {
            state.sending -= 1;
            return None;
        }
        Some((pushes, answers))
    }

    async fn send(&self, pushes: &[Packed]) -> RedisResult<Vec<PushAnswer>> {
        let push = Push { pushes };
        let command = push.command(&self.prefix);
        self.connections
            .ask(async |connection| {
                let answers: Vec<PushAnswer> = eval(connection, push.script(), &command).await?;
                let broken = answers.iter().find_map(|answer| match answer {
                    PushAnswer::Failed(error) if is_broken(error) => Some(error.clone()),
                    _ => None,
                });
                broken.map_or(Ok(answers), Err)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_that_panics_frees_its_place_and_the_last_one_fails_what_waits() {
        let (answer, mut answered) = oneshot::channel();
        let push = Packed {
            messages: Vec::new(),
            updates: Vec::new(),
        };
        let state = Mutex::new(State {
            sending: 2,
            waiting: VecDeque::from([Waiting { push, answer }]),
        });
        for (sending, waiting) in [(1, 1), (0, 0)] {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _run = Run(&state);
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(panicked.is_err());
            let state = state.lock();
            assert_eq!((state.sending, state.waiting.len()), (sending, waiting));
        }
        assert_eq!(
            answered.try_recv().err(),
            Some(oneshot::error::TryRecvError::Closed)
        );
    }
}
