//! Pushes that need a script. Those that come while runs are on their way share the next one: the busier the process, the
//! fewer exchanges with Redis each push takes. A lone push is sent at once.

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

/// The most pushes, and about the most bytes, that share a run: Redis serves nobody else meanwhile.
const MOST: usize = 64;
const MOST_BYTES: usize = 1024 * 1024;

/// The most runs that are on their way at once. With two, Redis has the next one when it ends the first, and works while
/// the first one's pushes are answered. More of them would only be smaller.
const RUNS: usize = 2;

/// The pushes of one process.
pub(super) struct Pushes(Arc<Shared>);

struct Shared {
    connections: Arc<Connections>,
    prefix: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many tasks send them.
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
            // What is only recorded may be written to a Redis that is full, where a message may not.
            return self.0.send(&[push]).await?.pop().ok_or_else(no_answer);
        }
        let (answer, answered) = oneshot::channel();
        let idle = {
            let mut state = self.0.state.lock();
            state.waiting.push_back(Waiting { push, answer });
            let idle = state.sending < RUNS;
            state.sending += usize::from(idle);
            idle
        };
        if idle {
            // In a task of its own: whoever pushes may be dropped, and the others must not wait for him.
            tokio::spawn(Arc::clone(&self.0).send_all());
        }
        answered.await.unwrap_or_else(|_| Err(no_answer()))
    }
}

/// The runtime ends.
fn no_answer() -> redis::RedisError {
    io::Error::new(
        io::ErrorKind::Interrupted,
        "the push was given up before redis answered",
    )
    .into()
}

/// A task that sends. Dropped when it panics or is cancelled: it no longer counts, and if it was the last one, what waits
/// fails, since only a task that runs answers it.
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
    /// Sends until nothing waits.
    async fn send_all(self: Arc<Self>) {
        let run = Run(&self.state);
        loop {
            // Whoever is about to push goes first, so that its push is in this run.
            tokio::task::yield_now().await;
            let Some((pushes, waiting)) = self.next() else {
                // It is counted off already, under the lock that saw that nothing waits.
                return std::mem::forget(run);
            };
            match self.send(&pushes).await {
                Ok(answers) => {
                    for (waiting, answer) in waiting.into_iter().zip(answers) {
                        // Who was dropped hears nothing.
                        let _ = waiting.send(Ok(answer));
                    }
                }
                Err(error) => {
                    // What waited for a broken connection shares its end, and does not wait for the next one to break.
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

    /// What is sent next; nothing when nothing waits.
    #[expect(clippy::type_complexity, reason = "two columns of a table")]
    fn next(&self) -> Option<(Vec<Packed>, Vec<oneshot::Sender<RedisResult<PushAnswer>>>)> {
        let mut state = self.state.lock();
        let (mut pushes, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while pushes.len() < MOST && bytes < MOST_BYTES {
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
