//! The program's own worker process.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::{RedisServer, phabricator::FakePhabricator};

use crate::stage::{Stage, Try};

/// `events run worker`. Ends with this value.
pub struct Process(Child);

impl Process {
    pub fn start(
        stage: &Stage,
        target: &Try,
        phabricator: &FakePhabricator,
        server: &RedisServer,
    ) -> Self {
        let config = stage.path("config.yml");
        let mut repository = stage.vcs.keys(&target.url);
        repository["name"] = "bench".into();
        repository["url"] = stage.source_url().into();
        repository["ssh_user"] = stage.sshd.user().into();
        repository["ssh_key"] = stage.sshd.private_key().expect("a key").into();
        // What is JSON is YAML too.
        let text = json!({ "events": {
            "PHABRICATOR": { "url": phabricator.url().as_str(), "api_key": phabricator.token().expose_secret() },
            "clones_dir": stage.clones(),
            "known_hosts": stage.sshd.known_hosts(),
            "repositories": [repository],
        }});
        fs::write(&config, text.to_string()).expect("a configuration is written");
        let child = Command::new(env!("CARGO_BIN_EXE_events"))
            .args(["run", "worker", "--config"])
            .arg(&config)
            .env("REDIS_URL", server.url())
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("events starts"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, so that it takes its children along.
    pub async fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("an id"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        while self.0.try_wait().expect("it is ours").is_none() {
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The most memory that a process has had, in MB.
pub fn peak_mb(id: u32) -> f64 {
    peak(id).expect("the process lives")
}

/// The same, unless the process has ended.
pub fn peak(id: u32) -> Option<f64> {
    memory(id, "VmHWM:")
}

/// The memory that a process has now, in MB.
pub fn resident_mb(id: u32) -> f64 {
    memory(id, "VmRSS:").expect("the process lives")
}

fn memory(id: u32, kind: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind))?;
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kb / 1024.0)
}

/// The processes of this program that a process has started.
pub fn children(id: u32, program: &str) -> Vec<u32> {
    let program = format!("({program}) ");
    let entries = fs::read_dir("/proc")
        .expect("a list of processes")
        .filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The parent stands behind the name, which is in parentheses, and the state.
        stat.rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1))
            == Some(&id.to_string())
            && stat.contains(&program)
    })
    .collect()
}
