//! `events telemetry backfill-pushlog`.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    CommandResult,
    peer::{Peer, nodes, pings},
    servers, telemetry,
};
use crate::world::{Process, until};

struct Stage {
    directory: TempDir,
    peer: Peer,
}

impl Stage {
    async fn new(pushes: u64) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            peer: Peer::start(pushes).await,
        }
    }

    async fn backfill(&self, arguments: &[&str]) -> CommandResult {
        let repository = self.peer.repository();
        let arguments = [&["backfill-pushlog", &repository], arguments].concat();
        telemetry(
            &arguments,
            &servers(&self.peer, &self.directory),
            &self.directory,
        )
        .await
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let repository = self.peer.repository();
        let arguments = [&["telemetry", "backfill-pushlog", &repository], arguments].concat();
        let environment = servers(&self.peer, &self.directory);
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Process::start(&arguments, &environment)
    }
}

#[tokio::test]
async fn interrupted_backfill_with_failures_sends_each_ping_once() {
    each_once(1_000).await;
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn interrupted_backfill_of_ten_thousand_pushes_sends_each_ping_once() {
    each_once(10_000).await;
}

async fn each_once(pushes: u64) {
    let stage = Stage::new(pushes).await;
    let (end, all) = (pushes.to_string(), pings(1..=pushes));
    let peer = &stage.peer;
    peer.world().fail_every = Some(203);
    let mut command = stage.start(&["0", &end, "--yes"]);
    until("a good part of the pings", &command, || {
        peer.accepted().len() > all.len() / 4
    })
    .await;
    command.signal(Signal::SIGINT);
    let status = command.ended().await;
    assert_eq!(status.code(), Some(1), "{}", command.log());
    let resume = format!(
        "events telemetry backfill-pushlog {} 0 {end} --resume --yes",
        peer.repository()
    );
    assert!(command.log().contains(&resume), "{}", command.log());
    assert!(
        command
            .log()
            .contains("/.local/state/code-review-events/backfill/"),
        "{}",
        command.log()
    );
    let before = peer.accepted().len();
    assert!(before < all.len(), "it is interrupted before its end");

    let result = stage.backfill(&["0", &end, "--yes", "--resume"]).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    let world = peer.world();
    assert_eq!(world.accepted.keys().cloned().collect::<BTreeSet<_>>(), all);
    let repeated = world.accepted.values().filter(|&&times| times > 1).count();
    assert_eq!(repeated, 0, "pings in flight are not sent again");
    assert!((16..=32).contains(&world.most), "{} at once", world.most);
    assert!(
        result.err.contains(" pushes, "),
        "no progress: {}",
        result.err
    );
}

#[tokio::test]
async fn killed_backfill_resumes_from_its_checkpoint_and_loses_nothing() {
    let stage = Stage::new(400).await;
    let peer = &stage.peer;
    peer.world().latency = Duration::from_millis(100);
    let command = stage.start(&["100", "400", "--yes"]);
    let folder = stage
        .directory
        .path()
        .join(".local/state/code-review-events/backfill");
    let saved = || std::fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
    until("a checkpoint", &command, || {
        saved() && peer.accepted().len() > 100
    })
    .await;
    command.signal(Signal::SIGKILL);
    peer.world().latency = Duration::ZERO;
    let result = stage.backfill(&["100", "400", "--yes", "--resume"]).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    assert!(!result.err.contains("no earlier run"), "{}", result.err);
    assert_eq!(peer.accepted(), pings(101..=400));
    assert!(!saved(), "the checkpoint is removed");
}

#[tokio::test]
async fn pings_are_sent_only_after_confirmation() {
    let stage = Stage::new(30).await;
    let result = stage.backfill(&["20", "40"]).await;
    assert_eq!(result.code, Some(1));
    let expected = format!(
        "events: the pings of 10 pushes (21 to 30) to {} to 127.0.0.1 would be sent: pass --yes to confirm\n",
        stage.peer.repository()
    );
    assert!(result.err.ends_with(&expected), "{}", result.err);
    assert_eq!(stage.peer.accepted(), BTreeSet::new());

    let result = stage.backfill(&["20", "40", "--no-send"]).await;
    assert_eq!(result.code, Some(0), "{}", result.err);
    let shown: BTreeSet<_> = result
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["changesetID"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(shown, (21..=30).flat_map(nodes).collect());
    assert_eq!(stage.peer.accepted(), BTreeSet::new());
    assert!(
        !stage.directory.path().join(".local").exists(),
        "a dry run writes no checkpoint"
    );

    for (arguments, expected) in [
        (
            &["7", "7", "--yes"][..],
            "START is the push before the first one",
        ),
        (
            &["30", "31", "--yes"],
            "nothing is left to do: the newest push of",
        ),
        (&["1", "2", "--no-send", "--resume"], "cannot be used with"),
    ] {
        let result = stage.backfill(arguments).await;
        assert!(result.err.contains(expected), "{}", result.err);
    }
}

#[tokio::test]
async fn terminal_gets_a_question_and_a_progress_bar() {
    let stage = Stage::new(30).await;
    // `script` gives its child a terminal.
    let line = format!(
        "'{}' telemetry backfill-pushlog {} 0 30",
        env!("CARGO_BIN_EXE_events"),
        stage.peer.repository()
    );
    for (answer, expected) in [("n\n", "nothing was sent"), ("y\n", "30/30 pushes, ")] {
        assert_eq!(stage.peer.accepted(), BTreeSet::new());
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_clear();
        command
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .envs(servers(&stage.peer, &stage.directory));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answer.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        drop(stdin);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(
            shown.contains("send the pings of 30 pushes (1 to 30) to "),
            "{shown}"
        );
        assert!(
            shown.contains("? [y/N] ") && shown.contains(expected),
            "{shown}"
        );
        assert_eq!(output.status.success(), answer == "y\n", "{shown}");
    }
    assert_eq!(stage.peer.accepted(), pings(1..=30));
}

#[tokio::test]
async fn changeset_that_fails_permanently_is_listed_and_blocks_no_others() {
    let stage = Stage::new(300).await;
    let missing = nodes(150)[1].clone();
    stage.peer.world().missing.insert(missing.clone());
    let result = stage.backfill(&["100", "300", "--yes"]).await;
    assert_eq!(result.code, Some(1));
    let expected = format!(
        "push 150: changeset {missing} has no ping: no such changeset: {missing} is not in"
    );
    assert!(result.err.contains(&expected), "{}", result.err);
    assert!(
        result.err.contains("events: 1 changeset without a ping"),
        "{}",
        result.err
    );
    assert_eq!(
        pings(101..=300).difference(&stage.peer.accepted()).count(),
        1
    );
}

#[tokio::test]
async fn interrupted_dry_run_reports_it_and_writes_no_checkpoint() {
    let stage = Stage::new(2_000).await;
    stage.peer.world().latency = Duration::from_millis(100);
    let mut command = stage.start(&["0", "2000", "--no-send"]);
    until("requests", &command, || stage.peer.world().most > 0).await;
    command.signal(Signal::SIGINT);
    assert_eq!(command.ended().await.code(), Some(1), "{}", command.log());
    assert!(
        command.log().contains("events: stopped after push "),
        "{}",
        command.log()
    );
    assert!(
        command.log().contains("; nothing was sent"),
        "{}",
        command.log()
    );
    assert!(
        !stage.directory.path().join(".local").exists(),
        "a dry run writes no checkpoint"
    );
    assert_eq!(stage.peer.accepted(), BTreeSet::new());
}
