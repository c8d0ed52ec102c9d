//! What the worker is measured beside: the commands of the project that did the same before.

use crate::{report::Times, stack::Stack, stage::Stage};

pub trait Original {
    /// Builds a stack, and pushes it.
    fn build(&mut self, stack: &Stack) -> Times;
}

/// An ssh with a connection of its own for each command.
pub fn plain_ssh(stage: &Stage) -> String {
    format!(
        "ssh -F none -oBatchMode=yes -oIdentitiesOnly=yes -oStrictHostKeyChecking=yes -oUserKnownHostsFile={} -l {} -i {}",
        stage.sshd.known_hosts().display(),
        stage.sshd.user(),
        stage.path("sshd").join("client_key").display(),
    )
}

/// Adds the time of a command to that of the commands before it with the same name.
pub fn add_step(steps: &mut Vec<(String, f64)>, name: &str, seconds: f64) {
    match steps.last_mut() {
        Some((last, sum)) if last == name => *sum += seconds,
        _ => steps.push((name.to_owned(), seconds)),
    }
}
