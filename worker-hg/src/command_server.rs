//! A warm `hg`: one command server that runs one command after another.
//!
//! While a command runs, its future owns the process. The process returns to [`CommandServer`] only when the command
//! has ended regularly. So an interruption (a deadline, a broken pipe, a dropped future) leaves no process behind, and
//! never a server that is out of step. The next command starts a new one.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use worker::{
    WorkerError,
    process::{self, CommandOutput, Group},
    text,
};

use crate::{
    framing::{self, Frame, FramingError, Sink},
    messages::is_full_disk,
    program,
};

/// The time that a server has to send its greeting.
const GREETING: Duration = Duration::from_secs(60);
/// The time that a server has to exit after its input was closed.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// The capacity of a pipe, in bytes.
const PIPE: usize = 64 << 10;

/// The most bytes of a server's standard error that are kept for an error, as when Python cannot start.
const MAX_STDERR_TAIL: usize = 4096;

/// The interval of checks on a command that does foreign work.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The time that a command may still run after it reported that it will fail. Mercurial then searches for the places of
/// all other hunks, to name those that fit nowhere, and that can take hours.
const FAILING: Duration = Duration::from_secs(2);

/// The number of bytes of a line that show whether a command will fail.
const MAX_LINE: usize = 128;

/// The directory within the repository for a server's temporary files, such as those that a patch makes. It is on the
/// same disk as the clone, and the worker finds there what a killed server left.
pub(crate) const SCRATCH: &str = ".hg/scratch";

/// A command server, which is started when it is needed.
#[derive(Debug)]
pub(crate) struct CommandServer {
    program: PathBuf,
    hgrc: Option<PathBuf>,
    clone: PathBuf,
    /// The most memory that a server may take, in bytes of address space.
    memory: u64,
    running: Option<Running>,
}

/// The end of a command that does foreign work.
#[derive(Debug)]
pub(crate) enum Ended {
    ByItself(CommandOutput),
    /// The command reported that it would fail, and was killed after [`FAILING`]. With its output until then.
    Failing(CommandOutput),
    /// The command used up its processor time, and was killed.
    OutOfTime,
}

enum Stop {
    OutOfTime,
    Failing,
    Deadline,
}

/// Keeps the standard error of a command, and notes whether a line shows that the command will fail.
struct Errors<'a> {
    kept: Vec<u8>,
    /// The start of the last line, which arrives in pieces.
    line: Vec<u8>,
    is_failing: fn(&[u8]) -> bool,
    fails: &'a AtomicBool,
}

impl Sink for Errors<'_> {
    fn room(&self) -> usize {
        self.kept.room()
    }

    fn take(&mut self, piece: &[u8]) {
        self.kept.take(piece);
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if (self.is_failing)(&self.line) {
                self.fails.store(true, Ordering::Relaxed);
            }
            if part.ends_with(b"\n") {
                self.line.clear();
            }
        }
    }
}

#[derive(Debug)]
struct Running {
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr_tail: JoinHandle<Vec<u8>>,
}

impl CommandServer {
    /// A server for the repository in `clone`, with the configuration file `hgrc`, that may take `memory` bytes.
    pub(crate) fn new(
        program: PathBuf,
        hgrc: Option<PathBuf>,
        clone: PathBuf,
        memory: u64,
    ) -> Self {
        Self {
            program,
            hgrc,
            clone,
            memory,
            running: None,
        }
    }

    /// Whether a server runs. None does at first, and after a command was interrupted.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Runs a command. Each option is one argument, `--option=value`, and `--` precedes the arguments that are no
    /// options.
    pub(crate) async fn run(
        &mut self,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        let mut stdout = Vec::new();
        let output = self.run_into(arguments, &mut stdout, deadline).await?;
        Ok(CommandOutput { stdout, ..output })
    }

    /// Runs a command whose standard output goes into `sink`, and not into the result.
    pub(crate) async fn run_into(
        &mut self,
        arguments: &[&str],
        sink: &mut impl Sink,
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        self.run_bytes_into(&bytes(arguments), sink, deadline).await
    }

    /// [`Self::run_into`] for arguments that need not be text.
    pub(crate) async fn run_bytes_into(
        &mut self,
        arguments: &[&[u8]],
        sink: &mut impl Sink,
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        let mut running = self.ready_for(arguments).await?;
        let mut stderr = Vec::new();
        match tokio::time::timeout(deadline, running.exchange(arguments, sink, &mut stderr)).await {
            Ok(Ok(code)) => {
                self.running = Some(running);
                Ok(CommandOutput {
                    code,
                    stdout: Vec::new(),
                    stderr,
                })
            }
            Ok(Err(source)) => Err(running.failed(name_of(arguments), source).await),
            Err(_) => {
                running.group.end().await;
                Err(WorkerError::Deadline {
                    is_push: arguments.contains(&b"push".as_slice()),
                    command: full_name(arguments),
                    seconds: deadline.as_secs(),
                })
            }
        }
    }

    /// Runs a command that does foreign work: an author's patch decides its amount. It may use the processor time
    /// `allowed`; the time that it used is added to `used`. A command that hangs without computing fails at the
    /// deadline, as any other does.
    pub(crate) async fn run_foreign(
        &mut self,
        arguments: &[&str],
        deadline: Duration,
        is_failing: fn(&[u8]) -> bool,
        allowed: Duration,
        used: &mut Duration,
    ) -> Result<Ended, WorkerError> {
        let arguments = bytes(arguments);
        let mut running = self.ready_for(&arguments).await?;
        let leader = running.group.leader();
        let processor_time = || leader.and_then(process::processor_time).unwrap_or_default();
        let before = processor_time();
        let since = || processor_time().saturating_sub(before);
        let fails = AtomicBool::new(false);
        let (mut stdout, mut stderr) = (
            Vec::new(),
            Errors {
                kept: Vec::new(),
                line: Vec::new(),
                is_failing,
                fails: &fails,
            },
        );
        let watching = async {
            let mut exchanging = pin!(running.exchange(&arguments, &mut stdout, &mut stderr));
            let mut checks = tokio::time::interval(CHECK_INTERVAL);
            checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut failing_since = None;
            loop {
                let now = tokio::select! {
                    biased;
                    exchanged = &mut exchanging => return Ok(exchanged),
                    now = checks.tick() => now,
                };
                if since() > allowed {
                    return Err(Stop::OutOfTime);
                }
                if fails.load(Ordering::Relaxed)
                    && now - *failing_since.get_or_insert(now) >= FAILING
                {
                    return Err(Stop::Failing);
                }
            }
        };
        let watched = tokio::time::timeout(deadline, watching)
            .await
            .unwrap_or(Err(Stop::Deadline));
        *used += since();
        let output = |code| CommandOutput {
            code,
            stdout,
            stderr: stderr.kept,
        };
        let stop = match watched {
            Ok(Ok(code)) => {
                self.running = Some(running);
                return Ok(Ended::ByItself(output(code)));
            }
            Ok(Err(source)) => return Err(running.failed(name_of(&arguments), source).await),
            Err(stop) => stop,
        };
        running.group.end().await;
        match stop {
            Stop::OutOfTime if !fails.load(Ordering::Relaxed) => Ok(Ended::OutOfTime),
            Stop::OutOfTime | Stop::Failing => Ok(Ended::Failing(output(-1))),
            Stop::Deadline => Err(WorkerError::Deadline {
                is_push: false,
                command: full_name(&arguments),
                seconds: deadline.as_secs(),
            }),
        }
    }

    /// A server for a command. Fails if the command cannot be sent.
    async fn ready_for(&mut self, arguments: &[&[u8]]) -> Result<Running, WorkerError> {
        if arguments.iter().any(|argument| argument.contains(&0)) {
            return Err(WorkerError::Argument {
                command: full_name(arguments),
            });
        }
        match self.running.take() {
            Some(running) => Ok(running),
            None => self.start().await,
        }
    }

    /// Whether the memory limit made the server run out of memory: its peak is above half of the limit. The request
    /// that failed does not count in the peak. The other cause is a machine that is out of memory.
    pub(crate) fn has_grown_too_large(&self) -> bool {
        self.running
            .as_ref()
            .and_then(|running| running.group.peak())
            .is_some_and(|peak| peak > self.memory / 2)
    }

    /// The memory that the server takes, in bytes; 0 without a server.
    pub(crate) fn memory(&self) -> u64 {
        self.running
            .as_ref()
            .and_then(|running| running.group.memory())
            .unwrap_or_default()
    }

    /// Closes the input of the server, if there is one, and kills it if it does not exit.
    pub(crate) async fn close(&mut self) {
        if let Some(Running {
            mut group, stdin, ..
        }) = self.running.take()
        {
            drop(stdin);
            if tokio::time::timeout(EXIT_TIME, group.wait()).await.is_err() {
                group.end().await;
            }
        }
    }

    async fn start(&self) -> Result<Running, WorkerError> {
        let mut command = program::hg(&self.program, self.hgrc.as_deref());
        let scratch = self.clone.join(SCRATCH);
        match std::fs::create_dir(&scratch) {
            // Without it Mercurial uses the system's directory; without a repository it reports an error.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(WorkerError::io(format!("make {}", scratch.display()))(
                    error,
                ));
            }
            _ => command.env("TMPDIR", &scratch),
        };
        // The working directory that its ssh needs.
        command.current_dir(self.clone.parent().unwrap_or(&self.clone));
        let mut repository = OsString::from("--repository=");
        repository.push(&self.clone);
        command.arg(repository).args(["serve", "--cmdserver=pipe"]);
        let (group, pipes) = Group::spawn(command)?;
        group.limit_memory(self.memory)?;
        let mut running = Running {
            group,
            stdin: pipes.stdin,
            stdout: BufReader::with_capacity(PIPE, pipes.stdout),
            stderr_tail: tokio::spawn(stderr_tail(pipes.stderr)),
        };
        match tokio::time::timeout(GREETING, running.greeted()).await {
            Ok(Ok(())) => Ok(running),
            Ok(Err(source)) => Err(running.failed("serve".to_owned(), source).await),
            Err(_) => {
                running.group.end().await;
                Err(WorkerError::Deadline {
                    is_push: false,
                    command: "hg serve".to_owned(),
                    seconds: GREETING.as_secs(),
                })
            }
        }
    }
}

impl Running {
    async fn greeted(&mut self) -> Result<(), FramingError> {
        let mut greeting = Vec::new();
        let frame = framing::read_frame(&mut self.stdout, &mut greeting, &mut Vec::new()).await?;
        let greeting = String::from_utf8_lossy(&greeting);
        let mut capabilities = greeting
            .lines()
            .filter_map(|line| line.strip_prefix("capabilities:"));
        let runs =
            capabilities.any(|words| words.split_whitespace().any(|word| word == "runcommand"));
        if frame == Frame::Output && runs {
            Ok(())
        } else {
            Err(FramingError::Greeting)
        }
    }

    /// Sends a command, waits for its end, and returns its exit code.
    async fn exchange(
        &mut self,
        arguments: &[&[u8]],
        stdout: &mut impl Sink,
        stderr: &mut impl Sink,
    ) -> Result<i32, FramingError> {
        framing::write_command(&mut self.stdin, arguments).await?;
        loop {
            match framing::read_frame(&mut self.stdout, stdout, stderr).await? {
                Frame::Output | Frame::Error | Frame::Ignored => {}
                Frame::Input => self.stdin.write_all(&framing::NO_INPUT).await?,
                Frame::Result(code) => return Ok(code),
            }
        }
    }

    async fn failed(self, command: String, source: FramingError) -> WorkerError {
        self.group.end().await;
        let words = match tokio::time::timeout(EXIT_TIME, self.stderr_tail).await {
            Ok(Ok(bytes)) if !bytes.is_empty() => format!(": {}", text::one_line(&bytes)),
            _ => String::new(),
        };
        if is_full_disk(&words) {
            return WorkerError::DiskFull {
                doing: format!("run `hg {command}`"),
                words,
            };
        }
        WorkerError::Server {
            what: format!("the hg command server failed during `hg {command}`{words}"),
            source: source.into(),
        }
    }
}

/// The name of a command among its arguments.
fn name_of(arguments: &[&[u8]]) -> String {
    let name = arguments.iter().find(|word| !word.starts_with(b"-"));
    name.map_or_else(String::new, |word| {
        String::from_utf8_lossy(word).into_owned()
    })
}

/// The program and the command, as an error names them.
fn full_name(arguments: &[&[u8]]) -> String {
    format!("hg {}", name_of(arguments))
}

fn bytes<'a>(arguments: &[&'a str]) -> Vec<&'a [u8]> {
    arguments
        .iter()
        .map(|argument| argument.as_bytes())
        .collect()
}

/// Reads the server's standard error to its end, and returns the last part: a traceback ends with its cause.
async fn stderr_tail(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(MAX_STDERR_TAIL));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages;

    #[test]
    fn failure_is_noticed_however_its_line_is_cut() {
        let fails = |pieces: &[&[u8]]| {
            let fails = AtomicBool::new(false);
            let mut errors = Errors {
                kept: Vec::new(),
                line: Vec::new(),
                is_failing: messages::is_failing,
                fails: &fails,
            };
            pieces.iter().for_each(|piece| errors.take(piece));
            assert_eq!(errors.kept, pieces.concat());
            fails.into_inner()
        };
        let words = b"patching file a\nHunk #1 succeeded at 3\nHunk #2 FAILED at 7\n";
        for cut in 0..=words.len() {
            let (start, end) = words.split_at(cut);
            assert!(fails(&[start, end]), "cut at {cut}");
        }
        let one_by_one: Vec<&[u8]> = words.chunks(1).collect();
        assert!(fails(&one_by_one));
        assert!(
            !fails(&[b"patching file Hunk #1 ", b"FAILED at 7\n"]),
            "the name of a file"
        );
        assert!(!fails(&[b"Hunk #1 succeeded at 3\n", b" FAILED at 7\n"]));
    }
}
