//! What the original does: libmozevent's sequence of commands on a clone with a working copy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use runtime::{Clock, SystemClock};

use super::client::{Client, Output, hg};
use crate::{
    original::{Original, add_step, plain_ssh},
    report::{Times, since},
    stack::{AUTHOR, Stack},
    stage::{Stage, Try},
};

/// The file that tells Try what to do.
const TRY_TASK_CONFIG: &str = "try_task_config.json";

pub struct Mozilla {
    client: Client,
    copy: PathBuf,
    source_url: String,
    try_url: String,
    revision: String,
}

impl Mozilla {
    /// Makes its clone. The source is its default path, which is asked in each build for what is not there.
    pub fn clone(stage: &Stage) -> PathBuf {
        let copy = stage.path("copy");
        let status = hg()
            .args([
                "clone",
                "--quiet",
                "--config=fsmonitor.warn_when_unused=false",
            ])
            .args([
                &format!("--config=ui.ssh={}", plain_ssh(stage)),
                &stage.source_url(),
            ])
            .arg(&copy)
            .status();
        assert!(status.expect("hg starts").success(), "the source is cloned");
        copy
    }

    pub fn start(stage: &Stage, copy: &Path, target: &Try) -> Self {
        let config = [
            "extensions.strip=".to_owned(),
            "extensions.purge=".to_owned(),
            format!("ui.ssh={}", plain_ssh(stage)),
        ];
        let client = Client::start(copy, &config);
        let (source_url, try_url, revision) =
            (stage.source_url(), target.url.clone(), stage.tip.clone());
        Self {
            client,
            copy: copy.to_owned(),
            source_url,
            try_url,
            revision,
        }
    }

    /// Runs a command, and adds its time to that of the others of its name.
    fn step(
        &mut self,
        steps: &mut Vec<(String, f64)>,
        name: &'static str,
        arguments: &[&str],
        input: &str,
    ) -> Output {
        let begin = SystemClock.now();
        let output = self.client.run(arguments, input.as_bytes());
        let seconds = since(begin);
        // The first build leaves nothing to strip.
        let nothing = name == "strip" && output.stderr.ends_with(b"empty revision set\n");
        assert!(
            output.code == 0 || nothing,
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        add_step(steps, name, seconds);
        output
    }
}

impl Original for Mozilla {
    /// Cleans up, applies and pushes.
    fn build(&mut self, stack: &Stack) -> Times {
        let begin = SystemClock.now();
        let mut steps = Vec::new();
        let config = self.copy.join(TRY_TASK_CONFIG).display().to_string();
        let update = format!("--rev={}", self.revision);
        let (source_url, try_url) = (self.source_url.clone(), self.try_url.clone());

        self.step(&mut steps, "revert", &["revert", "--all"], "");
        self.step(
            &mut steps,
            "strip",
            &["strip", "--no-backup", "--force", "--rev=roots(outgoing())"],
            "",
        );
        self.step(&mut steps, "pull", &["pull", &source_url], "");
        self.step(&mut steps, "update", &["update", "--clean", &update], "");
        self.step(
            &mut steps,
            "status",
            &["status", "--modified", "--added", "--removed", "--deleted"],
            "",
        );
        for (patch, at) in stack.patches.iter().zip(1..) {
            let (user, message) = (
                format!("--user={AUTHOR}"),
                format!("--message=Bug {at} - Do it"),
            );
            self.step(
                &mut steps,
                "import",
                &["import", &user, &message, "-"],
                patch,
            );
        }
        fs::write(&config, format!("{{\n    \"stack\": {}\n}}", stack.number))
            .expect("a file is written");
        self.step(&mut steps, "add", &["add", &config], "");
        self.step(
            &mut steps,
            "commit",
            &[
                "commit",
                "--message=try_task_config",
                &format!("--user={AUTHOR}"),
            ],
            "",
        );
        let tip = self.step(
            &mut steps,
            "tip",
            &["log", "--rev=tip", "--template={node}"],
            "",
        );
        let head = format!("--rev={}", String::from_utf8_lossy(&tip.stdout));
        self.step(
            &mut steps,
            "push",
            &["push", "--force", &head, &try_url],
            "",
        );
        Times {
            total: since(begin),
            steps,
        }
    }
}
