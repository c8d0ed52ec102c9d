//! A warm `hg`: one command server that runs one command after another.
//!
//! While a command runs, the process is held by the future that runs it, and goes back into [`CommandServer`] only when
//! the command has ended as it should. So whatever interrupts a command (a deadline, a broken pipe, a dropped future)
//! leaves no process behind, and never a server that is out of step; the next command starts a new one.

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

/// The time that a server has to greet, and to end after its input was closed.
const GREETING: Duration = Duration::from_secs(60);
const FAREWELL: Duration = Duration::from_secs(1);

/// As much as a pipe holds, in bytes.
const PIPE: usize = 64 << 10;

/// How much of what a server says outside the protocol is kept for the error, as when Python cannot start.
const MAX_LAST_WORDS: usize = 4096;

/// How often a command is looked at that does foreign work.
const LOOK: Duration = Duration::from_millis(250);

/// How long a command may go on that has said that it will fail. Mercurial then still looks for a place for each of the
/// other hunks, to name them all, and that can take hours.
const FAILING: Duration = Duration::from_secs(2);

/// How much of a line is enough to see that a command will fail.
const MAX_LINE: usize = 128;

/// Where a server puts its temporary files, within the repository: what a patch makes, for one. They are on the same disk as
/// the clone, and what one that was killed left can be found.
pub(crate) const SCRATCH: &str = ".hg/scratch";

/// A command server that is started when it is needed.
#[derive(Debug)]
pub(crate) struct CommandServer {
    program: PathBuf,
    hgrc: Option<PathBuf>,
    clone: PathBuf,
    /// The most memory that a server may have, in bytes of address space.
    memory: u64,
    running: Option<Running>,
}

/// How a command came to its end that does foreign work.
#[derive(Debug)]
pub(crate) enum Ended {
    ByItself(CommandOutput),
    /// It had said that it would fail, and was killed after a while. With what it had said.
    Failing(CommandOutput),
    /// It has used up its processor time, and was killed.
    Spent,
}

enum Stop {
    Spent,
    Failing,
    Deadline,
}

/// Takes what a command complains of, and notes whether one of its lines says that it will fail.
struct Errors<'a> {
    kept: Vec<u8>,
    /// The start of the last line, which arrives in pieces.
    line: Vec<u8>,
    says_so: fn(&[u8]) -> bool,
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
            if (self.says_so)(&self.line) {
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
    last_words: JoinHandle<Vec<u8>>,
}

impl CommandServer {
    /// A server for the repository in `clone`, with the configuration file `hgrc`, that may have `memory` bytes.
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

    /// Whether a server is up. It is not at first, nor after a command was interrupted.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Runs a command. Each option is one argument, `--option=value`, and `--` stands in front of what is no option.
    pub(crate) async fn run(
        &mut self,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        let mut stdout = Vec::new();
        let output = self.run_into(arguments, &mut stdout, deadline).await?;
        Ok(CommandOutput { stdout, ..output })
    }

    /// Runs a command whose output goes into `sink`, and not into what is returned.
    pub(crate) async fn run_into(
        &mut self,
        arguments: &[&str],
        sink: &mut impl Sink,
        deadline: Duration,
    ) -> Result<CommandOutput, WorkerError> {
        self.run_bytes_into(&bytes(arguments), sink, deadline).await
    }

    /// The same for arguments that need not be text.
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

    /// Runs a command that does what an author asks for, which may be more than anybody can wait for. It may use the
    /// processor time `allowed`; what it used is added to `used`. One that hangs, without computing, fails at the deadline
    /// as any other does.
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
                says_so: is_failing,
                fails: &fails,
            },
        );
        let watching = async {
            let mut exchanging = pin!(running.exchange(&arguments, &mut stdout, &mut stderr));
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut failing_since = None;
            loop {
                let now = tokio::select! {
                    biased;
                    exchanged = &mut exchanging => return Ok(exchanged),
                    now = looks.tick() => now,
                };
                if since() > allowed {
                    return Err(Stop::Spent);
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
            Stop::Spent if !fails.load(Ordering::Relaxed) => Ok(Ended::Spent),
            Stop::Spent | Stop::Failing => Ok(Ended::Failing(output(-1))),
            Stop::Deadline => Err(WorkerError::Deadline {
                is_push: false,
                command: full_name(&arguments),
                seconds: deadline.as_secs(),
            }),
        }
    }

    /// The server for a command, which must be one that can be sent.
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

    /// Whether the server has come so near to what it may have that this is why it found no more memory: what it asked
    /// for last does not count as taken. A machine can be out of memory, too.
    pub(crate) fn has_grown_too_large(&self) -> bool {
        self.running
            .as_ref()
            .and_then(|running| running.group.peak())
            .is_some_and(|peak| peak > self.memory / 2)
    }

    /// How much memory the server takes, in bytes; zero when there is none.
    pub(crate) fn memory(&self) -> u64 {
        self.running
            .as_ref()
            .and_then(|running| running.group.memory())
            .unwrap_or_default()
    }

    /// Ends the server kindly, if there is one.
    pub(crate) async fn close(&mut self) {
        if let Some(Running {
            mut group, stdin, ..
        }) = self.running.take()
        {
            drop(stdin);
            if tokio::time::timeout(FAREWELL, group.wait()).await.is_err() {
                group.end().await;
            }
        }
    }

    async fn start(&self) -> Result<Running, WorkerError> {
        let mut command = program::hg(&self.program, self.hgrc.as_deref());
        let scratch = self.clone.join(SCRATCH);
        match std::fs::create_dir(&scratch) {
            // Without it Mercurial takes the system's, and without a repository it says so itself.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(WorkerError::io(format!("make {}", scratch.display()))(
                    error,
                ));
            }
            _ => command.env("TMPDIR", &scratch),
        };
        // Where its ssh is to be.
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
            last_words: tokio::spawn(last_words(pipes.stderr)),
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

    /// Has a command run to its end, and returns its exit code.
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
        let words = match tokio::time::timeout(FAREWELL, self.last_words).await {
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

/// A command's name among its words.
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

/// Reads what the server says outside the protocol to its end, and returns the end of it: a traceback tells its cause
/// last.
async fn last_words(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(MAX_LAST_WORDS));
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
                says_so: messages::is_failing,
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
