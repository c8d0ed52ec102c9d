//! A real Mercurial: a repository, and an hgweb that serves it.

use std::{
    cell::RefCell,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use commit_telemetry::{Diffstat, Repository};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStdout,
    time::timeout,
};

/// The longest time until Mercurial prints its address.
const START: Duration = Duration::from_secs(60);
/// The longest time for all commands of a test, in seconds.
const COMMANDS: &str = "110";

/// A repository, and a command server that runs the commands of the test in it: starting Mercurial takes far longer than
/// most commands.
pub(crate) struct Hg {
    directory: TempDir,
    commands: RefCell<Child>,
    served: Option<Child>,
}

impl Drop for Hg {
    fn drop(&mut self) {
        if let Some(mut server) = self.served.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
        // The command server ends when its input is closed.
        let commands = self.commands.get_mut();
        drop(commands.stdin.take());
        commands.wait().unwrap();
    }
}

/// A call of Mercurial by `program`, independent of the user's configuration.
fn mercurial(program: &[&str], encoding: &str, directory: &Path) -> Command {
    let mut command = Command::new(program[0]);
    command
        .args(&program[1..])
        .env("HGRCPATH", "")
        .env("HGENCODING", encoding)
        .current_dir(directory);
    command.args([
        "--config=diff.git=1",
        "--config=ui.username=A <a@example.com>",
        "--config=ui.interactive=0",
    ]);
    command
}

impl Hg {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = mercurial(&["timeout", COMMANDS, "hg"], "UTF-8", directory.path());
        command
            .args(["serve", "--cmdserver=pipe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let hg = Self {
            commands: RefCell::new(command.spawn().unwrap()),
            directory,
            served: None,
        };
        let (_, hello) = hg.message();
        assert!(
            String::from_utf8_lossy(&hello).contains("runcommand"),
            "{}",
            hello.escape_ascii()
        );
        hg.run(&["init", "."]);
        hg
    }

    /// The next message of the command server: its channel and its text.
    fn message(&self) -> (u8, Vec<u8>) {
        let mut commands = self.commands.borrow_mut();
        let output = commands.stdout.as_mut().unwrap();
        let mut head = [0; 5];
        output.read_exact(&mut head).unwrap();
        let [channel, length @ ..] = head;
        let mut text = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
        output.read_exact(&mut text).unwrap();
        (channel, text)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs a command, which must succeed, and returns its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let request = arguments.join("\0");
        let mut call = b"runcommand\n".to_vec();
        call.extend(u32::try_from(request.len()).unwrap().to_be_bytes());
        call.extend(request.as_bytes());
        self.commands
            .borrow_mut()
            .stdin
            .as_mut()
            .unwrap()
            .write_all(&call)
            .unwrap();
        let (mut printed, mut errors) = (Vec::new(), Vec::new());
        loop {
            match self.message() {
                (b'o', text) => printed.extend(text),
                (b'e', text) => errors.extend(text),
                (b'r', code) => {
                    assert_eq!(
                        code,
                        [0; 4],
                        "{arguments:?}: {}",
                        String::from_utf8_lossy(&errors)
                    );
                    return String::from_utf8_lossy(&printed).into_owned();
                }
                (channel, _) => panic!("{arguments:?}: unexpected message on channel {channel}"),
            }
        }
    }

    /// Commits everything, with a description of any bytes, and returns the id.
    pub(crate) fn commit(&self, description: impl AsRef<[u8]>) -> String {
        let message = TempDir::new().unwrap();
        let message = message.path().join("message");
        std::fs::write(&message, description).unwrap();
        self.run(&["addremove", "--quiet", "--similarity=80"]);
        self.run(&["commit", "--logfile", message.to_str().unwrap()]);
        self.run(&["log", "--rev=.", "--template={node}"])
    }

    /// The counts of `hg diff --git --stat` for a changeset, from its last line, such as `2 files changed, 3 insertions(+), 0 deletions(-)`.
    pub(crate) fn stat(&self, node: &str) -> Diffstat {
        let printed = self.run(&["diff", "--git", "--stat", "--change", node]);
        let Some(summary) = printed.lines().last() else {
            return Diffstat::default();
        };
        let mut numbers = summary
            .split(", ")
            .map(|part| part.trim().split(' ').next().unwrap().parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Diffstat {
            changed_files: next(),
            additions: next(),
            deletions: next(),
        }
    }

    /// Serves the repository in this encoding, until this value is dropped.
    pub(crate) async fn serve(&mut self, encoding: &str) -> Repository {
        let mut command = mercurial(&["hg"], encoding, self.directory.path());
        command.args(["serve", "--address=127.0.0.1", "--port=0", "--print-url"]);
        // By default it logs to its standard output, which is not read after the address.
        command.args(["--accesslog=/dev/null", "--errorlog=/dev/null"]);
        let mut server = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = ChildStdout::from_std(server.stdout.take().unwrap()).unwrap();
        self.served = Some(server);
        let mut lines = BufReader::new(output).lines();
        let url = timeout(START, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        url.trim().parse().unwrap()
    }
}
