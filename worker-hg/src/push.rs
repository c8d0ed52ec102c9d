//! The push of a head to Try.

use std::path::Path;

use async_trait::async_trait;
use runtime::error_chain;
use tracing::warn;
use worker::{
    WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
    ssh::Ssh,
};

use crate::{
    clone::HgClone,
    mercurial::Opened,
    remote,
    transport::{address, ssh_prewarm::PrewarmedSsh},
};

#[async_trait]
impl Destination for Opened {
    fn prepare(&mut self) {
        let url = address::plain(&self.repository.try_url);
        self.prewarmed = PrewarmedSsh::open(&self.ssh, &url).unwrap_or_else(|error| {
            warn!(
                repository = self.repository.name,
                error = error_chain(&error),
                "cannot open the ssh session of a push in advance; the push opens one"
            );
            None
        });
    }

    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError> {
        let url = address::plain(&self.repository.try_url);
        let target = Try {
            url: &url,
            name: &self.repository.try_name,
            ssh: &self.ssh,
        };
        let session = &mut self.prewarmed;
        Ok(target.push(&mut self.clone, &push.head.id, session).await?)
    }

    fn end(&mut self) {
        self.prewarmed = None;
    }
}

/// The repository that heads are pushed to.
struct Try<'a> {
    url: &'a str,
    name: &'a str,
    ssh: &'a Ssh,
}

impl Try<'_> {
    /// Pushes `head` and its ancestors, in `session` if there is one.
    ///
    /// A failed push may have succeeded: the response can be lost after the other side has committed. So after a
    /// failure on the way to Try, the worker pushes the same head once more, and Mercurial then finds "no changes". It
    /// uses a new connection, since the kept one may have failed.
    async fn push(
        &self,
        clone: &mut HgClone,
        head: &str,
        session: &mut Option<PrewarmedSsh>,
    ) -> Result<PushOutcome, WorkerError> {
        let pushed = self.push_once(clone, head, session).await;
        if pushed.is_err() && Path::new(self.url).is_dir() {
            // For such a Try our server is also the other side, and may still hold its locks.
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
                self.ssh.close_connections().await;
                self.push_once(clone, head, &mut None).await
            }
            ended => ended,
        }
    }

    /// Rolls back what a killed push left in a Try repository on this machine. There our own `hg` is also the other
    /// side, and no other process would do it. A server behind ssh or HTTP outlives us, and does it itself.
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
    ) -> Result<PushOutcome, WorkerError> {
        let plain = self.ssh.command();
        let ssh = session
            .as_ref()
            .map_or(plain.as_str(), PrewarmedSsh::command);
        let ended = clone.push(head, self.url, ssh).await;
        let doing = format!("push to {}", self.name);
        if let Ok(output) = &ended
            && let Ok(outcome) = remote::push(&doing, output)
        {
            return Ok(outcome);
        }
        let words = match session.take() {
            Some(session) => session.close().await,
            None => Vec::new(),
        };
        let mut output = ended?;
        // As Mercurial prints the output of an ssh that it has started.
        let words = words
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty());
        let remote = words.flat_map(|line| [b"remote: ", line, b"\n"].concat());
        output.stderr.splice(..0, remote);
        remote::push(&doing, &output)
    }
}
