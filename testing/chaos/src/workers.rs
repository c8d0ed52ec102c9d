//! The worker processes: started, harmed, reaped and started again.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::{Clock, SystemClock};
use tokio::process::{Child, Command};

use crate::verify::{Kind, Violation};

/// Longer than a worker without a bus may take: its last command and its last settlement run into their limits.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a worker is started.
#[derive(Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where it runs, and logs.
    pub directory: PathBuf,
    /// The url of the world outside.
    pub outside: String,
    /// The url of Redis for each worker.
    pub buses: Vec<String>,
}

/// All workers.
#[derive(Debug)]
pub struct Workers {
    launch: Launch,
    running: Vec<Worker>,
    started: u32,
    /// When the workers that the driver killed or terminated were told so, by serial number.
    pub deaths: HashMap<u32, Timestamp>,
    /// How many aborted.
    pub aborted: u32,
    /// What they did wrong.
    pub violations: Vec<Violation>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    serial: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Cannot be told to stop yet.
    Starting,
    Up,
    Stopped {
        until: Timestamp,
    },
    Killed,
    Ending {
        until: Timestamp,
    },
}

impl Workers {
    /// Starts one worker for each bus.
    pub fn start(launch: Launch) -> anyhow::Result<Self> {
        let mut workers = Self {
            launch,
            running: Vec::new(),
            started: 0,
            deaths: HashMap::new(),
            aborted: 0,
            violations: Vec::new(),
        };
        for slot in 0..workers.launch.buses.len() {
            let worker = workers.spawn(slot)?;
            workers.running.push(worker);
        }
        Ok(workers)
    }

    /// How many were started beyond the first ones.
    pub fn restarts(&self) -> usize {
        self.started as usize - self.running.len()
    }

    /// Whether all are up.
    pub fn all_up(&self) -> bool {
        self.running.iter().all(|worker| worker.state == State::Up)
    }

    /// The state of each, with its serial number.
    pub fn states(&self) -> String {
        let states = self.running.iter();
        let states = states.map(|worker| format!("worker {} {:?}", worker.serial, worker.state));
        states.collect::<Vec<_>>().join(", ")
    }

    /// Notes that a worker said that it is ready.
    pub fn ready(&mut self, serial: u32) {
        let found = self
            .running
            .iter_mut()
            .find(|worker| worker.serial == serial);
        if let Some(worker) = found.filter(|worker| worker.state == State::Starting) {
            worker.state = State::Up;
        }
    }

    /// SIGKILL to the worker in `slot`, or the next one that is up; `false` when none is.
    pub fn kill(&mut self, slot: usize) -> anyhow::Result<bool> {
        self.inject_fault(slot, Signal::SIGKILL, State::Killed)
    }

    /// SIGTERM: it must end by itself and without fault.
    pub fn terminate(&mut self, slot: usize) -> anyhow::Result<bool> {
        self.inject_fault(
            slot,
            Signal::SIGTERM,
            State::Ending {
                until: SystemClock.now().checked_add(PATIENCE)?,
            },
        )
    }

    /// SIGSTOP, and SIGCONT after `during`.
    pub fn stop(&mut self, slot: usize, during: Duration) -> anyhow::Result<bool> {
        self.inject_fault(
            slot,
            Signal::SIGSTOP,
            State::Stopped {
                until: SystemClock.now().checked_add(during)?,
            },
        )
    }

    fn inject_fault(&mut self, slot: usize, signal: Signal, state: State) -> anyhow::Result<bool> {
        let count = self.running.len();
        let mut slots = (0..count).map(|by| (slot + by) % count);
        let Some(slot) = slots.find(|slot| self.running[*slot].state == State::Up) else {
            return Ok(false);
        };
        let worker = &mut self.running[slot];
        if signal != Signal::SIGSTOP {
            self.deaths.insert(worker.serial, SystemClock.now());
        }
        worker.signal(signal)?;
        worker.state = state;
        Ok(true)
    }

    /// Reaps and starts again what died, wakes what was stopped for long enough.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        let now = SystemClock.now();
        for slot in 0..self.running.len() {
            if let Some(status) = self.running[slot]
                .child
                .try_wait()
                .context("cannot wait for a worker")?
            {
                self.judge(slot, status);
                self.running[slot] = self.spawn(slot)?;
                continue;
            }
            let worker = &mut self.running[slot];
            match worker.state {
                State::Stopped { until } if now >= until => {
                    worker.signal(Signal::SIGCONT)?;
                    worker.state = State::Up;
                }
                State::Ending { until } if now >= until => {
                    let what = format!("did not end within {} s of SIGTERM", PATIENCE.as_secs());
                    self.violations.push(Violation::new(
                        Kind::Process,
                        format!("worker {}", worker.serial),
                        what,
                    ));
                    worker.signal(Signal::SIGKILL)?;
                    worker.state = State::Killed;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends all with SIGTERM; each is up.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        for slot in 0..self.running.len() {
            self.terminate(slot)?;
        }
        for slot in 0..self.running.len() {
            let ended = tokio::time::timeout(PATIENCE, self.running[slot].child.wait()).await;
            match ended {
                Ok(status) => self.judge(slot, status.context("cannot wait for a worker")?),
                Err(_) => {
                    let name = format!("worker {}", self.running[slot].serial);
                    self.violations.push(Violation::new(
                        Kind::Process,
                        name,
                        "did not end with the campaign".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Kills and reaps all that is left, whatever state it is in.
    pub async fn kill_all(&mut self) {
        for worker in &mut self.running {
            // It fails for one that was reaped.
            let _ = worker.child.kill().await;
        }
    }

    fn judge(&mut self, slot: usize, status: ExitStatus) {
        let worker = &self.running[slot];
        let meant = match worker.state {
            State::Killed => status.signal() == Some(Signal::SIGKILL as i32),
            State::Ending { .. } => status.success(),
            State::Starting | State::Up | State::Stopped { .. } => false,
        };
        if status.signal() == Some(Signal::SIGABRT as i32) {
            self.aborted += 1;
        } else if !meant {
            let what = format!("ended with {status} while it was {:?}", worker.state);
            self.violations.push(Violation::new(
                Kind::Process,
                format!("worker {}", worker.serial),
                what,
            ));
        }
    }

    fn spawn(&mut self, slot: usize) -> anyhow::Result<Worker> {
        let Launch {
            program,
            directory,
            outside,
            buses,
        } = &self.launch;
        let log = directory.join(format!("worker-{slot}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .context("cannot open a worker's log")?;
        self.started += 1;
        let child = Command::new(program)
            .args([
                "worker",
                "--bus",
                &buses[slot],
                "--outside",
                outside,
                "--serial",
                &self.started.to_string(),
            ])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a worker")?;
        Ok(Worker {
            child,
            serial: self.started,
            state: State::Starting,
        })
    }
}

impl Worker {
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // One that has died meanwhile is not reaped yet, so its id is still its own.
        let Some(pid) = self.child.id() else {
            return Ok(());
        };
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("cannot send {signal} to a worker"))
    }
}
