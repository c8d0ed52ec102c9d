//! A warm `hg`: one command server that runs one command after another.
//!
//! While a command runs, the process is held by the future that runs it, and goes back into [`CommandServer`] only when
//! the command has ended as it should. So whatever interrupts a command (a deadline, a broken pipe, a dropped future)
//! leaves no process behind, and never a server that is out of step; the next command starts a new one.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    task::JoinHandle,
};

use crate::{
    HgError,
    framing::{self, Frame, FramingError, Sink},
    outcome,
    process::{self, CommandOutput, Group},
    text,
};

/// The time that a server has to greet, and to end after its input was closed.
const GREETING: Duration = Duration::from_secs(60);
const FAREWELL: Duration = Duration::from_secs(1);

/// As much as a pipe holds, in bytes.
const PIPE: usize = 64 << 10;

/// How much of what a server says outside the protocol is kept for the error, as when Python cannot start.
const MAX_LAST_WORDS: usize = 4096;

/// A command server that is started when it is needed.
#[derive(Debug)]
pub(crate) struct CommandServer {
    program: PathBuf,
    hgrc: Option<PathBuf>,
    clone: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    last_words: JoinHandle<Vec<u8>>,
}

impl CommandServer {
    /// A server for the repository in `clone`, with the configuration file `hgrc`.
    pub(crate) fn new(program: PathBuf, hgrc: Option<PathBuf>, clone: PathBuf) -> Self {
        Self { program, hgrc, clone, running: None }
    }

    /// Whether a server is up. It is not at first, nor after a command was interrupted.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Runs a command. Each option is one argument, `--option=value`, and `--` stands in front of what is no option.
    pub(crate) async fn run(&mut self, arguments: &[&str], deadline: Duration) -> Result<CommandOutput, HgError> {
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
    ) -> Result<CommandOutput, HgError> {
        let name =
            || arguments.iter().find(|word| !word.starts_with('-')).map_or_else(String::new, |&word| word.into());
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(HgError::Argument { command: name() });
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start().await?,
        };
        match tokio::time::timeout(deadline, running.exchange(arguments, sink)).await {
            Ok(Ok(output)) => {
                self.running = Some(running);
                Ok(output)
            }
            Ok(Err(source)) => Err(running.failed(name(), source).await),
            Err(_) => {
                running.group.end().await;
                Err(HgError::Deadline { command: name(), seconds: deadline.as_secs() })
            }
        }
    }

    /// How much memory the server takes, in bytes; zero when there is none.
    pub(crate) fn memory(&self) -> u64 {
        self.running.as_ref().and_then(|running| running.group.memory()).unwrap_or_default()
    }

    /// Ends the server kindly, if there is one.
    pub(crate) async fn close(&mut self) {
        if let Some(Running { mut group, stdin, .. }) = self.running.take() {
            drop(stdin);
            if tokio::time::timeout(FAREWELL, group.wait()).await.is_err() {
                group.end().await;
            }
        }
    }

    async fn start(&self) -> Result<Running, HgError> {
        let mut command = process::hg(&self.program, self.hgrc.as_deref());
        // Where its ssh is to be.
        command.current_dir(self.clone.parent().unwrap_or(&self.clone));
        let mut repository = OsString::from("--repository=");
        repository.push(&self.clone);
        command.arg(repository).args(["serve", "--cmdserver=pipe"]);
        let (group, pipes) = Group::spawn(command)?;
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
                Err(HgError::Deadline { command: "serve".to_owned(), seconds: GREETING.as_secs() })
            }
        }
    }
}

impl Running {
    async fn greeted(&mut self) -> Result<(), FramingError> {
        let mut greeting = Vec::new();
        let frame = framing::read_frame(&mut self.stdout, &mut greeting, &mut Vec::new()).await?;
        let greeting = String::from_utf8_lossy(&greeting);
        let mut capabilities = greeting.lines().filter_map(|line| line.strip_prefix("capabilities:"));
        let runs = capabilities.any(|words| words.split_whitespace().any(|word| word == "runcommand"));
        if frame == Frame::Output && runs { Ok(()) } else { Err(FramingError::Greeting) }
    }

    async fn exchange(&mut self, arguments: &[&str], sink: &mut impl Sink) -> Result<CommandOutput, FramingError> {
        framing::write_command(&mut self.stdin, arguments).await?;
        let mut output = CommandOutput::default();
        loop {
            match framing::read_frame(&mut self.stdout, sink, &mut output.stderr).await? {
                Frame::Output | Frame::Error | Frame::Ignored => {}
                Frame::Input => self.stdin.write_all(&framing::NO_INPUT).await?,
                Frame::Result(code) => {
                    output.code = code;
                    return Ok(output);
                }
            }
        }
    }

    async fn failed(self, command: String, source: FramingError) -> HgError {
        self.group.end().await;
        let words = match tokio::time::timeout(FAREWELL, self.last_words).await {
            Ok(Ok(bytes)) if !bytes.is_empty() => format!(": {}", text::one_line(&bytes)),
            _ => String::new(),
        };
        if outcome::is_full_disk(&words) {
            return HgError::DiskFull { doing: format!("run `hg {command}`"), words };
        }
        HgError::Protocol { command, words, source }
    }
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
