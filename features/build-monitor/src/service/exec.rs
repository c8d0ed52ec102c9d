//! Runs a command for an event.
//!
//! An event may hold anything, so none of it is on the command line or in the environment: the command reads it from its
//! standard input. The command has the standard output and error of this process.

use std::{io, process::Stdio};

use futures::future::OptionFuture;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use thiserror::Error;
use tokio::io::AsyncWriteExt;

use super::Command;
use crate::Event;

/// A command that did not succeed.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error("cannot write the event")]
    Event(#[from] serde_json::Error),
    #[error("cannot start sh for the command")]
    Start(#[source] io::Error),
    #[error("cannot wait for the command")]
    Wait(#[source] io::Error),
    #[error("the command failed: {0}")]
    Failed(std::process::ExitStatus),
    #[error("the command took too long, and was killed")]
    TimedOut,
}

/// Runs `command` to its end. Dropping the future kills the command and all processes that it started.
pub(super) async fn run(command: &Command, event: &Event) -> Result<(), CommandError> {
    // The newline is for `read`.
    let line = serde_json::to_string(event)? + "\n";
    let mut shell = tokio::process::Command::new("sh");
    shell
        .args(["-c", &command.shell])
        .stdin(Stdio::piped())
        .process_group(0);
    for variable in command.hidden {
        shell.env_remove(variable);
    }
    let mut shell = shell.spawn().map_err(CommandError::Start)?;
    let group = Group(
        shell
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw),
    );
    let feeding = shell.stdin.take().map(async |mut input| {
        // The command need not read it.
        let _ = input.write_all(line.as_bytes()).await;
    });
    let (_, ended) = tokio::join!(OptionFuture::from(feeding), shell.wait());
    group.has_ended();
    let status = ended.map_err(CommandError::Wait)?;
    if status.success() {
        Ok(())
    } else {
        Err(CommandError::Failed(status))
    }
}

/// The processes of a command. They are killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    /// Keeps the processes that the command left behind: its number may belong to another command now.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::{Clock, SystemClock};
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    fn command(shell: &str) -> Command {
        Command {
            shell: shell.to_owned(),
            hidden: &["HOME"],
        }
    }

    fn event(tree: &str) -> Event {
        let event = json!({
            "event": "build", "tree": tree, "branch": "try", "platform": "linux64", "buildtype": "opt", "tags": [],
            "timestamp": "20261121025554", "key": "k",
        });
        serde_json::from_value(event).unwrap()
    }

    #[tokio::test]
    async fn command_reads_event_from_standard_input() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("event");
        let hostile = event("$(exit 4); `exit 3` ' \" \n");
        run(&command(&format!("cat > {}", file.display())), &hostile)
            .await
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<Event>(&std::fs::read(file).unwrap()).unwrap(),
            hostile
        );
    }

    #[tokio::test]
    async fn exit_status_of_command_is_reported() {
        let failed = run(&command("exit 3"), &event("try")).await.unwrap_err();
        assert_eq!(failed.to_string(), "the command failed: exit status: 3");
        run(&command("true"), &event("try")).await.unwrap();
        run(&command("test -z \"$HOME\""), &event("try"))
            .await
            .unwrap();
        run(&command("exec <&-; exit 0"), &event(&"x".repeat(200_000)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn cancelled_command_is_killed_with_its_processes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let command = command(&format!(
            "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        ));
        let event = event("try");
        let started = async {
            while !file.exists() {
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = run(&command, &event) => panic!("it ended: {ended:?}"),
            () = started => {}
        }
        let child = std::fs::read_to_string(file).unwrap();
        let alive = || {
            let stat =
                std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            !(stat.is_empty() || stat.contains(") Z "))
        };
        let gone = async {
            while alive() {
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.unwrap();
    }
}
