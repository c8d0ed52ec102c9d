//! A real Mercurial: a repository, and an hgweb that serves it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use commit_telemetry::{Diffstat, Repository};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStdout,
};

pub(crate) struct Hg {
    directory: TempDir,
    served: Option<Child>,
}

impl Drop for Hg {
    fn drop(&mut self) {
        if let Some(mut server) = self.served.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Hg {
    pub(crate) fn new() -> Self {
        let hg = Self { directory: TempDir::new().unwrap(), served: None };
        hg.run(&["init"]);
        hg
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn command(&self, encoding: &str) -> Command {
        let mut command = Command::new("hg");
        // What the user has configured for Mercurial is not for the tests.
        command.env("HGRCPATH", "").env("HGENCODING", encoding).current_dir(self.directory.path());
        command.args(["--config=diff.git=1", "--config=ui.username=A <a@example.com>", "--config=ui.interactive=0"]);
        command
    }

    /// Runs Mercurial, which has to succeed, and returns what it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command("UTF-8").args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
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

    /// What `hg diff --git --stat` says of a changeset: its last line, such as `2 files changed, 3 insertions(+), 0 deletions(-)`.
    pub(crate) fn stat(&self, node: &str) -> Diffstat {
        let printed = self.run(&["diff", "--git", "--stat", "--change", node]);
        let Some(summary) = printed.lines().last() else { return Diffstat::default() };
        let mut numbers = summary.split(", ").map(|part| part.trim().split(' ').next().unwrap().parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Diffstat { changed_files: next(), additions: next(), deletions: next() }
    }

    /// Serves the repository in this encoding, until this value ends.
    pub(crate) async fn serve(&mut self, encoding: &str) -> Repository {
        let mut command = self.command(encoding);
        command.args(["serve", "--address=127.0.0.1", "--port=0", "--print-url"]);
        // It would log to where it said its address, which nobody reads any more.
        command.args(["--accesslog=/dev/null", "--errorlog=/dev/null"]);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = ChildStdout::from_std(server.stdout.take().unwrap()).unwrap();
        self.served = Some(server);
        let mut lines = BufReader::new(output).lines();
        let url = lines.next_line().await.unwrap().expect("hg serve says where it listens");
        url.trim().parse().unwrap()
    }
}
