//! The manager of one clone slot: an actor that holds the state of its clone.
//!
//! Two things change the state: a clone that was found broken ([`SlotManager::lost`]), and commands, each with a reply.
//! The actor is one loop, [`SlotManager::run`]: it prepares the clone until that works, serves commands while the clone
//! is there, and prepares it again when it is lost. A command that arrives while the clone is being prepared fails with
//! the next failure, or is executed when the clone is ready.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bus::Backoff;
use jiff::Timestamp;
use runtime::{Clock, error_chain};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{info, warn};

use super::{
    dir::{Contents, Role},
    maintenance::{self, CloneFate},
    prepare,
    requests::{MaintenanceResult, Task},
    slot::{Home, Ready, Slot},
};
use crate::{RepositorySettings, Settings, WorkerError, disk};

/// The waits between attempts to prepare a clone.
const PREPARING: Backoff = Backoff {
    first: Duration::from_secs(2),
    factor: 2,
    cap: Duration::from_secs(300),
};

/// The longest wait between attempts while the disk is full.
const ROOM: Duration = Duration::from_secs(60);

/// A command for the clone of a slot.
struct Command {
    task: Task,
    requested_at: Timestamp,
    reply: oneshot::Sender<Result<MaintenanceResult, WorkerError>>,
}

impl Command {
    /// Sends the reply. The sender of the command may have gone.
    fn end(self, result: Result<MaintenanceResult, WorkerError>) {
        let _ = self.reply.send(result);
    }
}

/// The manager of a slot.
pub(crate) struct SlotManager {
    slot: Slot,
    commands: mpsc::Sender<Command>,
    /// Locked by the loop that runs.
    incoming: Mutex<mpsc::Receiver<Command>>,
    /// Whether the clone was checked for a [`crate::vcs::VcsClone::warning`]. The check delays builds, so each process
    /// makes it once.
    is_checked: AtomicBool,
    /// Whether a corrupt clone is on the disk without a mark, so that it could be opened again.
    is_unmarked: AtomicBool,
}

impl SlotManager {
    /// The manager of the slot with this number; the first has 0.
    pub(crate) fn new(settings: &Settings, repository: &RepositorySettings, number: usize) -> Self {
        let (commands, incoming) = mpsc::channel(1);
        Self {
            slot: Slot::new(settings, repository, number),
            commands,
            incoming: Mutex::new(incoming),
            is_checked: AtomicBool::new(false),
            is_unmarked: AtomicBool::new(false),
        }
    }

    /// Reports that its clone was found broken, and is not in the pool any more. The clone `is_marked` if it cannot be
    /// opened again.
    pub(crate) fn lost(&self, is_marked: bool) {
        self.is_unmarked.store(!is_marked, Ordering::SeqCst);
        self.slot.lost.notify_one();
    }

    /// Has [`Self::run`] do a task on the clone.
    pub(crate) async fn maintain(
        &self,
        task: Task,
        clock: &dyn Clock,
    ) -> Result<MaintenanceResult, WorkerError> {
        let (reply, received) = oneshot::channel();
        let requested_at = clock.now();
        // Neither fails while the loop runs.
        let _ = self
            .commands
            .send(Command {
                task,
                requested_at,
                reply,
            })
            .await;
        received.await.unwrap_or(Err(WorkerError::Cancelled))
    }

    /// Prepares the clone and executes commands; never returns.
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
                // A clone that was made after the request is as good as a replacement.
                let is_new = made.is_some_and(|made| made >= next.requested_at);
                let (fate, result) =
                    maintenance::execute(&self.slot, next.task, is_new, home).await;
                next.end(result);
                if fate == CloneFate::Lost {
                    break;
                }
            }
        }
    }

    /// Retries until the clone is prepared. Returns the time at which it was made, if it was. A command that arrives
    /// meanwhile is kept in `command`, and ends with the next failure.
    async fn make_ready(
        &self,
        home: Home<'_>,
        incoming: &mut mpsc::Receiver<Command>,
        command: &mut Option<Command>,
    ) -> Option<Timestamp> {
        let name = self.slot.dir.name();
        let started = home.clock.now();
        let mut no_room_logged = false;
        for attempt in 1.. {
            let error = match self.prepare(home).await {
                Ok((mut ready, fresh)) => {
                    // One warning is enough for all slots: they have the same source.
                    if self.slot.number == 0
                        && !self.is_checked.swap(true, Ordering::SeqCst)
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
                if !no_room_logged {
                    warn!(repository = name, "{text}");
                }
                no_room_logged = true;
            } else {
                let seconds = pause.as_secs();
                warn!(
                    repository = name,
                    error = text,
                    "cannot prepare the clone; retrying in {seconds} s"
                );
            }
            if let Some(command) = command.take().or_else(|| incoming.try_recv().ok()) {
                command.end(Err(error));
            }
            tokio::select! {
                () = home.clock.sleep(pause) => {}
                // Retry at once: the sender of a command needs the current state.
                received = incoming.recv() => *command = received,
            }
        }
        None
    }

    /// Prepares the clone; returns whether it was made. Quarantines a corrupt clone without a mark first. If the
    /// process ends before that, the next one may open the clone, and find the damage when another build fails.
    async fn prepare(&self, home: Home<'_>) -> Result<(Ready, bool), WorkerError> {
        if self.is_unmarked.load(Ordering::SeqCst) {
            let dir = self.slot.dir.clone();
            let doing = format!("put the clone {} in quarantine", dir.name());
            let lock = dir.lock()?;
            let quarantining = move || {
                let _lock = lock;
                match dir.contents(Role::Clone) {
                    Contents::Missing => Ok(()),
                    _ => dir.quarantine(),
                }
            };
            disk::blocking(quarantining)
                .await
                .map_err(WorkerError::io(doing))?;
            self.is_unmarked.store(false, Ordering::SeqCst);
        }
        prepare::prepare(&self.slot, home).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::fake_vcs::Fixture;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn first_clone_of_a_process_is_checked_for_a_warning() {
        let fixture = Fixture::new();
        let home = fixture.home();
        let manager = SlotManager::new(home.all, home.repository, 0);
        let losing = async {
            for _ in 0..2 {
                let ready = home.pool.take(TIMEOUT).await.expect("it is prepared");
                drop(ready.discard());
                manager.lost(true);
            }
        };
        tokio::select! {
            () = losing => {}
            () = manager.run(home) => {}
        }
        assert_eq!(fixture.vcs.warnings.load(Ordering::SeqCst), 1);
    }
}
