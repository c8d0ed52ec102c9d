//! Pushing a head to Try.

use std::path::Path;
use worker::WorkerError;

use crate::{clone::HgClone, remote, transport::ssh::Ssh, transport::ssh_prewarm::PrewarmedSsh};

/// Where heads go to.
pub(crate) struct Try<'a> {
    pub(crate) url: &'a str,
    pub(crate) name: &'a str,
    pub(crate) ssh: &'a Ssh,
}

impl Try<'_> {
    /// Pushes `head` and what it stands on, in `session` if there is one. `Ok` when it is there, by this push or by an
    /// earlier one.
    ///
    /// A push that fails may have landed: the answer can be lost after the other side has committed. So after a failure
    /// of the way there the same head is pushed once more, which finds "no changes" then. It goes over a new connection,
    /// since the one that was kept may be what failed.
    pub(crate) async fn push(
        &self,
        clone: &mut HgClone,
        head: &str,
        session: &mut Option<PrewarmedSsh>,
    ) -> Result<(), WorkerError> {
        let pushed = self.push_once(clone, head, session).await;
        if pushed.is_err() && Path::new(self.url).is_dir() {
            // There our server is also the other side, and may still hold its locks.
            clone.close().await;
        }
        match pushed {
            Err(WorkerError::Remote { words, .. })
                if words.contains("abandoned transaction") && Path::new(self.url).is_dir() =>
            {
                self.recover(clone).await?;
                self.push_once(clone, head, &mut None).await
            }
            Err(
                WorkerError::Remote { .. }
                | WorkerError::Deadline { .. }
                | WorkerError::Server { .. },
            ) => {
                self.ssh.hang_up().await;
                self.push_once(clone, head, &mut None).await
            }
            ended => ended,
        }
    }

    /// Rolls back what a killed push left in a Try repository on this machine. There our own `hg` is also the other
    /// side, and nobody else would do it; a server behind ssh or HTTP outlives us and does it itself.
    async fn recover(&self, clone: &mut HgClone) -> Result<(), WorkerError> {
        let repository = format!("--repository={}", self.url);
        clone
            .run(&format!("recover {}", self.name), &[&repository, "recover"])
            .await
            .map(|_| ())
    }

    async fn push_once(
        &self,
        clone: &mut HgClone,
        head: &str,
        session: &mut Option<PrewarmedSsh>,
    ) -> Result<(), WorkerError> {
        let plain = self.ssh.command();
        let ssh = session
            .as_ref()
            .map_or(plain.as_str(), PrewarmedSsh::command);
        let pushed = clone.push(head, self.url, ssh).await;
        let doing = format!("push to {}", self.name);
        match pushed {
            Ok(output) if remote::push(&doing, &output).is_ok() => Ok(()),
            failed => {
                let words = match session.take() {
                    Some(session) => session.close().await,
                    None => Vec::new(),
                };
                let mut output = failed?;
                // As Mercurial shows it when ssh is its own.
                let words = words
                    .split(|&byte| byte == b'\n')
                    .filter(|line| !line.is_empty());
                let remote = words.flat_map(|line| [b"remote: ", line, b"\n"].concat());
                output.stderr.splice(..0, remote);
                remote::push(&doing, &output)
            }
        }
    }
}
