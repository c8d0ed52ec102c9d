//! A clone without a working copy, and the invariant that all of its users rely on.
//!
//! # Changesets of builds and of the source
//!
//! A build adds changesets to the clone and strips them at its end. A crash can leave them there, but the newest
//! changeset of the clone must never be one of them. Phases do not show the difference: a push to a publishing Try
//! makes our changesets public, and a source that does not publish leaves its own as drafts. So the clone has a *source
//! tip*: a file that names the newest changeset after the last clone or pull. Mercurial numbers changesets as they
//! arrive, and the worker pulls nothing while changesets of a build are there. So **each changeset with a number above
//! the source tip is ours**, and can be stripped.
//!
//! A crash can end each step:
//! * a clone: it is made under another name, and moved into place when it is whole and has its source tip;
//! * a pull, before the new source tip is written: the new changesets count as ours, are stripped, and come again with
//!   the next pull;
//! * an import, a pull or a strip, before its end: `hg recover` rolls Mercurial's own transaction back.
//!
//! A failed command can leave as much behind as a crash, such as a transaction that Mercurial could not roll back on a
//! full disk. So before each build the worker brings the clone into the state of its source tip. It uses the clone in
//! no other state.

mod lookup;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::AsyncWriteExt;
use worker::{
    Limits, Peer, WorkerError, disk,
    process::{self, CommandOutput},
    source_tip,
};

use crate::{
    changeset::Changeset,
    command_server::{CommandServer, Ended, SCRATCH},
    locks,
    messages::{self, Success, is_full_disk},
    program, remote,
    transport::address::SOURCE,
};

/// The journal of an open transaction.
const JOURNAL: &str = ".hg/store/journal";
/// The file of a patch that is imported from memory.
const PATCH: &str = ".hg/incoming.patch";

/// A clone that is ready for builds.
pub(crate) struct HgClone {
    source: Source,
    directory: PathBuf,
    server: CommandServer,
    /// The number of the source tip.
    source_tip: i64,
    /// The hash of the source tip.
    source_tip_node: String,
    /// Whether the clone may hold something of a build.
    dirty: bool,
}

/// A patch for [`HgClone::import`].
#[derive(Clone, Copy)]
pub(crate) enum PatchInput<'a> {
    /// The patch is in this file.
    File(&'a Path),
    /// The patch is in memory.
    Bytes(&'a [u8]),
}

/// The program of Mercurial, and the way to the source.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// The configuration file with the address of the source; see [`crate::transport::address::write_hgrc`].
    pub(crate) hgrc: PathBuf,
    /// The value of `ui.ssh` for a command server.
    pub(crate) ssh: String,
    /// The value of `ui.ssh` for a separate `hg`.
    pub(crate) one_off_ssh: String,
    pub(crate) limits: Limits,
}

impl HgClone {
    /// Makes a clone in `temporary`, and removes first what an interrupted attempt left there. The result is whole, has
    /// its source tip, and can be moved into its place.
    pub(crate) async fn make(source: &Source, temporary: &Path) -> Result<(), WorkerError> {
        remove(temporary).await?;
        let made = Self::make_in(source, temporary).await;
        if made.is_err() {
            // The rest may be what fills the disk. If it cannot be removed now, the next attempt begins with its
            // removal.
            let _ = remove(temporary).await;
        }
        made
    }

    async fn make_in(source: &Source, temporary: &Path) -> Result<(), WorkerError> {
        let doing = format!("clone {}", source.name);
        let hg = || program::hg(&source.program, Some(&source.hgrc));
        let target = temporary.display().to_string();
        let ssh = ssh_config(&source.one_off_ssh);
        let arguments = [
            ssh.as_str(),
            "clone",
            "--noupdate",
            "--stream",
            "--",
            SOURCE,
            target.as_str(),
        ];
        let output = process::run(hg(), arguments, "hg clone", source.limits.clone).await?;
        if output.code != 0 {
            return Err(remote::remote_failure(Peer::Source, &doing, &output));
        }
        let repository = format!("--repository={target}");
        let arguments = [repository.as_str(), "log", "--rev=tip", "--template={node}"];
        let tip = process::run(hg(), arguments, "hg log", source.limits.command)
            .await?
            .success(&doing)?
            .text();
        source_tip::write(temporary, &tip)
    }

    /// Opens the clone in `directory`, and removes what builds left there. [`WorkerError::Damaged`] when it has to be
    /// cloned again.
    pub(crate) async fn open(source: &Source, directory: &Path) -> Result<Self, WorkerError> {
        let mut clone = Self {
            source: source.clone(),
            directory: directory.to_owned(),
            server: CommandServer::new(
                source.program.clone(),
                Some(source.hgrc.clone()),
                directory.to_owned(),
                source.limits.memory,
            ),
            source_tip: -1,
            source_tip_node: String::new(),
            dirty: true,
        };
        // Other users may have got the right to read it.
        disk::make_private(directory).map_err(WorkerError::io(format!(
            "make the clone of {} private",
            source.name
        )))?;
        let tip = source_tip::read(directory).map_err(|damage| clone.damaged(damage))?;
        locks::break_stale(directory).map_err(WorkerError::io(format!(
            "remove stale locks from the clone of {}",
            source.name
        )))?;
        clone.recover().await?;
        let found = clone
            .find(&tip)
            .await?
            .ok_or_else(|| clone.damaged("its source tip is unknown".to_owned()))?;
        (clone.source_tip, clone.source_tip_node) = (found.number, found.node);
        clone.strip().await?;
        Ok(clone)
    }

    /// Removes what a build left, in whatever state it left the clone. Replaces a server that takes too much memory.
    pub(crate) async fn tidy(&mut self) -> Result<(), WorkerError> {
        let open = fs::exists(self.directory.join(JOURNAL)).map_err(WorkerError::io(format!(
            "check the clone of {} for an open transaction",
            self.source.name
        )))?;
        if open {
            // The server may hold data of that transaction in memory.
            self.server.close().await;
        }
        if self.dirty || !self.server.is_up() {
            if !self.server.is_up() {
                self.recover().await?;
            }
            self.strip().await?;
        }
        if self.server.memory() > self.source.limits.server_memory {
            self.server.close().await;
            // This starts a warm server for the next build.
            self.tip().await?;
        }
        Ok(())
    }

    /// Pulls from the source. The clone must hold nothing of a build.
    pub(crate) async fn pull(&mut self) -> Result<(), WorkerError> {
        let ssh = ssh_config(&self.source.ssh);
        // Until the new source tip is written, pulled changesets count as ours.
        self.dirty = true;
        let output = self
            .server
            .run(&[&ssh, "pull", "--", SOURCE], self.source.limits.transfer)
            .await?;
        if output.code != 0 {
            return Err(remote::remote_failure(
                Peer::Source,
                &format!("pull {}", self.source.name),
                &output,
            ));
        }
        let tip = self.tip().await?;
        source_tip::write(&self.directory, &tip.node)?;
        (self.source_tip, self.source_tip_node) = (tip.number, tip.node);
        self.dirty = false;
        Ok(())
    }

    /// Imports a patch on `parent`; the caller judges Mercurial's output. The import may use the processor time
    /// `allowed`; the time that it used is added to `used`.
    pub(crate) async fn import(
        &mut self,
        parent: &Changeset,
        patch: PatchInput<'_>,
        options: &[&str],
        allowed: Duration,
        used: &mut Duration,
    ) -> Result<Ended, WorkerError> {
        // Set before the first step that can leave something behind.
        self.dirty = true;
        let made = self.directory.join(PATCH);
        let (written, path) = match patch {
            PatchInput::File(path) => (Ok(()), path),
            PatchInput::Bytes(bytes) => (write_private(&made, bytes).await, made.as_path()),
        };
        let imported = match written {
            Ok(()) => self.import_file(parent, path, options, allowed, used).await,
            Err(error) => Err(error),
        };
        self.remove_patch().and(imported)
    }

    /// Whether the memory limit made Mercurial run out of memory: see [`CommandServer::has_grown_too_large`].
    pub(crate) fn has_grown_too_large(&self) -> bool {
        self.server.has_grown_too_large()
    }

    async fn import_file(
        &mut self,
        parent: &Changeset,
        path: &Path,
        options: &[&str],
        allowed: Duration,
        used: &mut Duration,
    ) -> Result<Ended, WorkerError> {
        self.run("set the parent", &["debugsetparents", "--", &parent.node])
            .await?;
        let path = path.display().to_string();
        let mut arguments = vec!["import", "--bypass"];
        arguments.extend(options);
        arguments.extend(["--", &path]);
        self.server
            .run_foreign(
                &arguments,
                self.source.limits.import,
                messages::is_failing,
                allowed,
                used,
            )
            .await
    }

    /// Removes the patch: its revision may have become private.
    fn remove_patch(&self) -> Result<(), WorkerError> {
        match fs::remove_file(self.directory.join(PATCH)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WorkerError::io(format!(
                "remove a patch from the clone of {}",
                self.source.name
            ))(error)),
            _ => Ok(()),
        }
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn run(
        &mut self,
        doing: &str,
        command: &[&str],
    ) -> Result<CommandOutput, WorkerError> {
        let output = self.server.run(command, self.source.limits.command).await?;
        output.success(format!("{doing} in {}", self.source.name))
    }

    /// Pushes `head` and its ancestors, with `ssh` as `ui.ssh`; the caller judges Mercurial's output.
    pub(crate) async fn push(
        &mut self,
        head: &str,
        url: &str,
        ssh: &str,
    ) -> Result<CommandOutput, WorkerError> {
        let (ssh, rev) = (ssh_config(ssh), format!("--rev={head}"));
        self.server
            .run(
                &[&ssh, "push", "--force", &rev, "--", url],
                self.source.limits.transfer,
            )
            .await
    }

    /// The number of the newest changeset while the clone holds none of a build.
    pub(crate) fn source_tip(&self) -> i64 {
        self.source_tip
    }

    /// Ends the command server.
    pub(crate) async fn close(&mut self) {
        self.server.close().await;
    }

    async fn recover(&mut self) -> Result<(), WorkerError> {
        // The exit code 1 means that there was nothing to recover.
        let output = self
            .server
            .run(&["recover"], self.source.limits.command)
            .await?;
        match output.words() {
            _ if matches!(output.code, 0 | 1) => Ok(()),
            words if is_full_disk(&words) => Err(WorkerError::DiskFull {
                doing: format!("recover the clone of {}", self.source.name),
                words,
            }),
            words => Err(self.damaged(words)),
        }
    }

    /// Removes all that is not the source's.
    async fn strip(&mut self) -> Result<(), WorkerError> {
        self.remove_patch()?;
        let scratch = self.directory.join(SCRATCH);
        disk::blocking(move || disk::empty(&scratch))
            .await
            .map_err(WorkerError::io(format!(
                "empty the scratch directory of {}",
                self.source.name
            )))?;
        // If Mercurial stripped the parent of the working copy, it would write a working copy.
        self.run("reset the parent", &["debugsetparents", "--", "null"])
            .await?;
        if self.tip().await?.number > self.source_tip {
            let rev = format!("--rev={}:", self.source_tip + 1);
            let command = ["strip", "--no-backup", "--keep", &rev];
            self.run("strip the changesets of a build", &command)
                .await?;
        }
        let tip = self.tip().await?;
        if tip.node != self.source_tip_node {
            return Err(self.damaged(format!(
                "its newest changeset is {}, not its source tip",
                tip.short()
            )));
        }
        self.dirty = false;
        Ok(())
    }

    fn damaged(&self, reason: String) -> WorkerError {
        WorkerError::Damaged {
            repository: self.source.name.clone(),
            reason,
        }
    }
}

/// Writes a file that no other user can read. It writes in pieces: `fs::write` would copy all of it first.
async fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WorkerError> {
    let writing = async {
        let mut file = tokio::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .await?;
        file.write_all(bytes).await?;
        file.flush().await
    };
    writing
        .await
        .map_err(WorkerError::io(format!("write {}", path.display())))
}

async fn remove(directory: &Path) -> Result<(), WorkerError> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WorkerError::io(format!(
            "remove {}",
            directory.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// The option with `ui.ssh` for one command. Each command gets it, since the value stays set for later ones.
fn ssh_config(ssh: &str) -> String {
    format!("--config=ui.ssh={ssh}")
}
