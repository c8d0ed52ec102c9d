//! The program's own processes: started, killed, reaped and started again.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
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

use super::{
    plan::WORKERS,
    verify::{Kind, Violation},
};

/// How long work in flight is given after SIGTERM (s).
const GRACE: u64 = 3;
/// Longer than a process may take to end after that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The web server.
    Web,
    /// The worker of this number.
    Worker(usize),
}

/// How the program is started.
#[derive(Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where the logs and configurations are.
    pub directory: PathBuf,
    /// The address of Redis.
    pub redis: String,
    /// Where the web server listens.
    pub web: SocketAddr,
}

/// All of them: the web server first, then the workers.
#[derive(Debug)]
pub struct Processes {
    launch: Launch,
    running: Vec<Process>,
    /// What they did wrong.
    pub violations: Vec<Violation>,
}

#[derive(Debug)]
struct Process {
    role: Role,
    child: Child,
    state: State,
    /// Where its part of the log begins.
    log_from: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Cannot be told to stop yet.
    Starting,
    Up,
    Killed,
    Ending {
        until: Timestamp,
    },
}

impl Role {
    fn name(self) -> String {
        match self {
            Self::Web => "web".to_owned(),
            Self::Worker(number) => format!("worker-{number}"),
        }
    }

    /// What it says when it begins to work, and heeds signals.
    fn is_up(self, log: &str) -> bool {
        match self {
            Self::Web => log.contains(" listening"),
            Self::Worker(_) => log.contains(" working on "),
        }
    }
}

impl Processes {
    /// Starts all.
    pub fn start(launch: Launch) -> anyhow::Result<Self> {
        let roles = [Role::Web]
            .into_iter()
            .chain((0..WORKERS).map(Role::Worker));
        let running = roles
            .map(|role| spawn(&launch, role))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            launch,
            running,
            violations: Vec::new(),
        })
    }

    /// Whether all are up.
    pub fn all_up(&self) -> bool {
        self.running
            .iter()
            .all(|process| process.state == State::Up)
    }

    /// SIGKILL, also while it starts; `false` when it is about to end already.
    pub fn kill(&mut self, role: Role) -> anyhow::Result<bool> {
        self.inject_fault(
            role,
            &[State::Starting, State::Up],
            Signal::SIGKILL,
            State::Killed,
        )
    }

    /// SIGTERM: it must end by itself and without fault.
    pub fn terminate(&mut self, role: Role) -> anyhow::Result<bool> {
        let until = SystemClock.now().checked_add(PATIENCE)?;
        self.inject_fault(role, &[State::Up], Signal::SIGTERM, State::Ending { until })
    }

    fn inject_fault(
        &mut self,
        role: Role,
        when: &[State],
        signal: Signal,
        then: State,
    ) -> anyhow::Result<bool> {
        let found = self
            .running
            .iter_mut()
            .find(|process| process.role == role && when.contains(&process.state));
        let Some(process) = found else {
            return Ok(false);
        };
        process.signal(signal)?;
        process.state = then;
        Ok(true)
    }

    /// Reaps what died, and starts it again at once.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        let now = SystemClock.now();
        for process in &mut self.running {
            if let Some(status) = process
                .child
                .try_wait()
                .context("cannot wait for a process")?
            {
                self.violations.extend(judge(process, status));
                *process = spawn(&self.launch, process.role)?;
                continue;
            }
            match process.state {
                State::Starting if process.role.is_up(&process.log(&self.launch.directory)?) => {
                    process.state = State::Up;
                }
                State::Ending { until } if now >= until => {
                    let what = format!("did not end within {} s of SIGTERM", PATIENCE.as_secs());
                    self.violations
                        .push(Violation::new(Kind::Process, process.role.name(), what));
                    process.signal(Signal::SIGKILL)?;
                    process.state = State::Killed;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends all with SIGTERM; each is up.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        let roles: Vec<Role> = self.running.iter().map(|process| process.role).collect();
        for role in roles {
            self.terminate(role)?;
        }
        for process in &mut self.running {
            match tokio::time::timeout(PATIENCE, process.child.wait()).await {
                Ok(status) => self
                    .violations
                    .extend(judge(process, status.context("cannot wait for a process")?)),
                Err(_) => {
                    let what = "did not end with the campaign".to_owned();
                    self.violations
                        .push(Violation::new(Kind::Process, process.role.name(), what));
                }
            }
        }
        Ok(())
    }

    /// Kills and reaps all that is left, whatever state it is in.
    pub async fn kill_all(&mut self) {
        for process in &mut self.running {
            // It fails for one that was reaped.
            let _ = process.child.kill().await;
        }
    }
}

/// What is wrong with the way in which a process ended.
fn judge(process: &Process, status: ExitStatus) -> Option<Violation> {
    use std::os::unix::process::ExitStatusExt;
    let meant = match process.state {
        State::Killed => status.signal() == Some(Signal::SIGKILL as i32),
        State::Ending { .. } => status.success(),
        State::Starting | State::Up => false,
    };
    let what = || format!("ended with {status} while it was {:?}", process.state);
    (!meant).then(|| Violation::new(Kind::Process, process.role.name(), what()))
}

fn spawn(launch: &Launch, role: Role) -> anyhow::Result<Process> {
    let name = role.name();
    let path = log_file(&launch.directory, role);
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .context("cannot open a log")?;
    let log_from = log.metadata().context("cannot look at a log")?.len();
    let mut command = Command::new(&launch.program);
    command
        .arg("run")
        .arg(if role == Role::Web { "web" } else { "worker" });
    command
        .arg("--config")
        .arg(launch.directory.join(&name).with_extension("yml"));
    command.args([
        "--grace",
        &GRACE.to_string(),
        "--bind",
        &launch.web.ip().to_string(),
    ]);
    command.args(["--port", &launch.web.port().to_string()]);
    // Whatever the caller has set for a deployment of their own.
    for variable in [
        "DYNO",
        "REDIS_TLS_URL",
        "REDIS_CA_FILE",
        "LOG_FORMAT",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    let child = command
        .env("REDIS_URL", &launch.redis)
        .current_dir(&launch.directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot open a log")?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", launch.program.display()))?;
    Ok(Process {
        role,
        child,
        state: State::Starting,
        log_from,
    })
}

fn log_file(directory: &Path, role: Role) -> PathBuf {
    directory.join(role.name()).with_extension("log")
}

impl Process {
    /// What it has said so far.
    fn log(&self, directory: &Path) -> anyhow::Result<String> {
        let log = fs::read(log_file(directory, self.role)).context("cannot read a log")?;
        let ours = log
            .get(usize::try_from(self.log_from)?..)
            .unwrap_or_default();
        Ok(String::from_utf8_lossy(ours).into_owned())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // One that has died meanwhile is not reaped yet, so its id is still its own.
        let Some(pid) = self.child.id() else {
            return Ok(());
        };
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("cannot send {signal} to a process"))
    }
}
