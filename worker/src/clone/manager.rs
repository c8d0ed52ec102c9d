//! The manager of one clone slot: an actor that holds the state of its clone.
//!
//! Two things change the state: a clone that was found broken ([`SlotManager::lost`]), and commands, each with an
//! answer. The actor is one loop, [`SlotManager::run`]: it prepares the clone until that works, serves commands while
//! the clone is there, and prepares it again when it is lost. A command that comes while the clone is prepared gets its
//! answer with the next failure, or is done when the clone is there.

use std::time::Duration;

use bus::Backoff;
use jiff::Timestamp;
use runtime::{Clock, error_chain};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{info, warn};

use super::{
    maintenance::{self, CloneFate},
    prepare,
    requests::{MaintenanceResult, Task},
    slot::{Home, Slot},
};
use crate::{RepositorySettings, Settings, WorkerError, vcs::Vcs};

/// The waits between attempts to prepare a clone.
const PREPARING: Backoff = Backoff {
    first: Duration::from_secs(2),
    factor: 2,
    cap: Duration::from_secs(300),
};

/// The longest wait when the disk is full.
const ROOM: Duration = Duration::from_secs(60);

/// A command for the clone of a slot.
struct Command {
    task: Task,
    asked: Timestamp,
    answer: oneshot::Sender<Result<MaintenanceResult, WorkerError>>,
}

impl Command {
    /// Ends it. The sender may have gone.
    fn end(self, result: Result<MaintenanceResult, WorkerError>) {
        let _ = self.answer.send(result);
    }
}

/// The manager of a slot.
pub(crate) struct SlotManager {
    slot: Slot,
    commands: mpsc::Sender<Command>,
    /// Held by the loop that runs.
    incoming: Mutex<mpsc::Receiver<Command>>,
}

impl SlotManager {
    /// The manager of the slot with this number; the first has 0.
    pub(crate) fn new(
        settings: &Settings,
        vcs: &dyn Vcs,
        repository: &RepositorySettings,
        number: usize,
    ) -> Self {
        let (commands, incoming) = mpsc::channel(1);
        Self {
            slot: Slot::new(settings, vcs, repository, number),
            commands,
            incoming: Mutex::new(incoming),
        }
    }

    /// Its clone was found broken, and is not in the pool any more.
    pub(crate) fn lost(&self) {
        self.slot.lost.notify_one();
    }

    /// Has a task done on the clone by [`Self::run`].
    pub(crate) async fn maintain(
        &self,
        task: Task,
        clock: &dyn Clock,
    ) -> Result<MaintenanceResult, WorkerError> {
        let (answer, answered) = oneshot::channel();
        let asked = clock.now();
        // Neither fails while the loop runs.
        let _ = self
            .commands
            .send(Command {
                task,
                asked,
                answer,
            })
            .await;
        answered.await.unwrap_or(Err(WorkerError::Cancelled))
    }

    /// Prepares the clone and does what is commanded, for ever.
    pub(crate) async fn run(&self, home: Home<'_>) {
        let mut incoming = self.incoming.lock().await;
        let mut command = None;
        loop {
            let made = self.make_ready(home, &mut incoming, &mut command).await;
            loop {
                let next = match command.take() {
                    Some(command) => command,
                    None => tokio::select! {
                        () = self.slot.lost.notified() => break,
                        Some(command) = incoming.recv() => command,
                    },
                };
                // A clone that has just been made is what was asked for.
                let is_new = made.is_some_and(|made| made >= next.asked);
                let (fate, result) =
                    maintenance::execute(&self.slot, next.task, is_new, home).await;
                next.end(result);
                if fate == CloneFate::Lost {
                    break;
                }
            }
        }
    }

    /// Prepares the clone until it works; returns when, if it was made for that. A command that comes meanwhile waits
    /// for an end: it has it with the next failure, and until then is kept in `command`.
    async fn make_ready(
        &self,
        home: Home<'_>,
        incoming: &mut mpsc::Receiver<Command>,
        command: &mut Option<Command>,
    ) -> Option<Timestamp> {
        let name = self.slot.dir.name();
        let started = home.clock.now();
        let mut short_of_room = false;
        for attempt in 1.. {
            let error = match prepare::prepare(&self.slot, home).await {
                Ok((mut ready, fresh)) => {
                    // The first clone speaks for all: they have the same source.
                    if self.slot.number == 0
                        && let Some(warning) = ready.clone.warning().await
                    {
                        warn!(repository = home.repository.name, "{warning}");
                    }
                    home.pool.add(ready);
                    home.outage.ends(home.all, home.clock);
                    let now = home.clock.now();
                    let seconds = now.duration_since(started).as_secs_f64();
                    info!(
                        step = "ready",
                        repository = name,
                        seconds,
                        "the clone of {name} is ready"
                    );
                    return fresh.then_some(now);
                }
                Err(error) => error,
            };
            let mut pause = PREPARING.after(attempt, home.clock);
            let text = error_chain(&error);
            if let WorkerError::DiskFull { .. } = error {
                pause = pause.min(ROOM);
                home.outage.begins(&error, home.all, home.clock);
            } else if let WorkerError::NoRoom { .. } = error {
                pause = PREPARING.cap;
                if !short_of_room {
                    warn!(repository = name, "{text}");
                }
                short_of_room = true;
            } else {
                let seconds = pause.as_secs();
                warn!(
                    repository = name,
                    error = text,
                    "cannot prepare the clone, next try in {seconds} s"
                );
            }
            if let Some(command) = command.take().or_else(|| incoming.try_recv().ok()) {
                command.end(Err(error));
            }
            tokio::select! {
                () = home.clock.sleep(pause) => {}
                // The sender of a command wants to know the state of now.
                received = incoming.recv() => *command = received,
            }
        }
        None
    }
}
