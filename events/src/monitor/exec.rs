//! A command for each event.
//!
//! An event may hold anything, so nothing of it is on the command line or in the environment: it is on the command's
//! standard input. What the command prints goes where this process prints.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use pulse::monitor::Event;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::environment::SECRETS;

/// Runs `command` to its end. When this is dropped before, the command is killed with all that it started.
pub(super) async fn run(command: &str, event: &Event) -> anyhow::Result<()> {
    // A line, as `read` wants it.
    let line = serde_json::to_string(event).context("cannot write the event")? + "\n";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::piped())
        .process_group(0);
    // It has no use for them.
    for secret in SECRETS {
        shell.env_remove(secret);
    }
    let mut shell = shell.spawn().context("cannot start sh for the command")?;
    let group = Group(
        shell
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw),
    );
    let feeding = shell.stdin.take().map(async |mut input| {
        // A command that does not read it is free to.
        let _ = input.write_all(line.as_bytes()).await;
    });
    let (_, ended) = tokio::join!(futures::future::OptionFuture::from(feeding), shell.wait());
    group.has_ended();
    let status = ended.context("cannot wait for the command")?;
    if !status.success() {
        bail!("the command failed: {status}");
    }
    Ok(())
}

/// The processes of a command. Killed with this value.
struct Group(Option<Pid>);

impl Group {
    /// What the command left behind is its own affair, and its number may belong to another.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
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

    fn event(tree: &str) -> Event {
        let event = json!({
            "event": "build", "tree": tree, "branch": "try", "platform": "linux64", "buildtype": "opt", "tags": [],
            "timestamp": "20261121025554", "key": "k",
        });
        serde_json::from_value(event).unwrap()
    }

    #[tokio::test]
    async fn the_command_gets_the_event_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("event");
        let hostile = event("$(exit 4); `exit 3` ' \" \n");
        run(&format!("cat > {}", file.display()), &hostile)
            .await
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<Event>(&std::fs::read(file).unwrap()).unwrap(),
            hostile
        );
    }

    #[tokio::test]
    async fn failures_are_reported() {
        let failed = run("exit 3", &event("try")).await.unwrap_err();
        assert_eq!(failed.to_string(), "the command failed: exit status: 3");
        run("true", &event("try")).await.unwrap();
        run("exec <&-; exit 0", &event(&"x".repeat(200_000)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_ends_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let command = format!(
            "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        );
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
