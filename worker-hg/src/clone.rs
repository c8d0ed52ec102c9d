//! A clone without a working copy, and the one invariant that everything rests on.
//!
//! # What is ours and what is the source's
//!
//! A build adds changesets to the clone and takes them away again when it is done. A crash can leave them there, and
//! the newest changeset of the clone must never be one of those. Phases do not tell: a push to a publishing Try makes
//! our changesets public, and a source that does not publish leaves its own as drafts. So the clone has a *mark*: a
//! file that names the newest changeset after the last clone or pull. Changesets are numbered as they arrive, and
//! nothing is pulled while a build's are there, so **whatever is numbered above the mark is ours** and can go.
//!
//! Each step may be the last one before a crash:
//! * during a clone: it is made under another name and moved into place when it is whole and marked;
//! * between a pull and the new mark: what was pulled counts as ours, is stripped, and comes again with the next pull;
//! * during an import, a pull or a strip: Mercurial's own transaction is rolled back by `recover`.
//!
//! A command that fails can leave as much behind as a crash, such as a transaction that could not be rolled back on a full
//! disk. So before each build the clone is brought into the state that the mark stands for, and is not used otherwise.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

use crate::{
    HgError, Limits, Peer,
    address::SOURCE,
    disk::{self, write_atomically},
    error::is_full_disk,
    framing::Sink,
    locks,
    made::Sizes,
    outcome,
    process::{self, CommandOutput},
    server::{CommandServer, Ended, SCRATCH},
    text,
    tree::ManifestReader,
};

/// The mark, within the clone.
pub(crate) const MARK: &str = ".hg/source-tip";
/// The journal of a transaction that has not ended.
const JOURNAL: &str = ".hg/store/journal";
/// How many files Mercurial is asked about at once. It looks at all files of the repository for each of 100 or more.
const FILES_AT_ONCE: usize = 99;
/// A patch on its way into the clone.
const PATCH: &str = ".hg/incoming.patch";

/// A clone that is ready to be built on.
pub(crate) struct HgClone {
    source: Source,
    directory: PathBuf,
    server: CommandServer,
    /// The number of the newest changeset that is the source's.
    mark: i64,
    /// Its hash.
    mark_node: String,
    /// Whether there may be something of ours.
    dirty: bool,
}

/// How to reach Mercurial and the source.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// The configuration file that says where the source is; see [`crate::address::configuration`].
    pub(crate) hgrc: PathBuf,
    /// The value of `ui.ssh` for a command server, and for an `hg` of its own.
    pub(crate) ssh: String,
    pub(crate) passing_ssh: String,
    pub(crate) limits: Limits,
}

/// A changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changeset {
    /// Its hash, 40 hex digits.
    pub(crate) node: String,
    /// Its number in this clone.
    pub(crate) number: i64,
    /// Its first parent's hash.
    pub(crate) parent: String,
    /// Its manifest's hash.
    pub(crate) manifest: String,
    /// Whether it changes any file.
    pub(crate) changes: bool,
}

/// What can name a changeset: 12 to 40 hex digits. Nothing else from outside may get into an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hash(String);

impl Hash {
    /// Reads what an author's client says, which may be in any case, with spaces around it. `None` for what Mercurial
    /// takes for "nothing" or "the working copy".
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let pseudo = ["0", "f"]
            .iter()
            .any(|digit| text.trim_start_matches(digit).is_empty());
        let usable = (12..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !pseudo;
        usable.then_some(Self(text))
    }

    /// Whether it names this changeset.
    pub(crate) fn names(&self, changeset: &Changeset) -> bool {
        changeset.node.starts_with(&self.0)
    }
}

impl Changeset {
    /// Reads a line of what `hg log` printed.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [node, number, parent, manifest, changes] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            node: (*node).to_owned(),
            number: number.parse().ok()?,
            parent: (*parent).to_owned(),
            manifest: (*manifest).to_owned(),
            changes: *changes == "changes",
        })
    }

    /// The first digits of its hash, as people read it.
    pub(crate) fn short(&self) -> &str {
        self.node.get(..12).unwrap_or(&self.node)
    }
}

impl HgClone {
    /// Makes a clone in `temporary`; what an interrupted attempt left there goes. When this returns it is whole and
    /// marked, and can be moved into its place.
    pub(crate) async fn make(source: &Source, temporary: &Path) -> Result<(), HgError> {
        remove(temporary).await?;
        let made = Self::make_in(source, temporary).await;
        if made.is_err() {
            // What is there may be what fills the disk. If it cannot be removed, the next attempt begins with that.
            let _ = remove(temporary).await;
        }
        made
    }

    async fn make_in(source: &Source, temporary: &Path) -> Result<(), HgError> {
        let doing = format!("clone {}", source.name);
        let hg = || process::hg(&source.program, Some(&source.hgrc));
        let target = temporary.display().to_string();
        let ssh = ssh_config(&source.passing_ssh);
        let arguments = [
            ssh.as_str(),
            "clone",
            "--noupdate",
            "--stream",
            "--",
            SOURCE,
            target.as_str(),
        ];
        let output = process::run(hg(), arguments, "clone", source.limits.clone).await?;
        if output.code != 0 {
            return Err(outcome::remote_failure(Peer::Source, &doing, &output));
        }
        let repository = format!("--repository={target}");
        let arguments = [repository.as_str(), "log", "--rev=tip", "--template={node}"];
        let tip = process::run(hg(), arguments, "log", source.limits.command)
            .await?
            .success(&doing)?
            .text();
        write_atomically(&temporary.join(MARK), tip.as_bytes())
            .map_err(HgError::io(format!("mark {target}")))
    }

    /// Opens the clone in `directory` and tidies it up. [`HgError::Damaged`] when it has to be cloned again.
    pub(crate) async fn open(source: &Source, directory: &Path) -> Result<Self, HgError> {
        let mut clone = Self {
            source: source.clone(),
            directory: directory.to_owned(),
            server: CommandServer::new(
                source.program.clone(),
                Some(source.hgrc.clone()),
                directory.to_owned(),
                source.limits.memory,
            ),
            mark: -1,
            mark_node: String::new(),
            dirty: true,
        };
        // An older release may have made it for others to read.
        disk::make_private(directory).map_err(HgError::io(format!(
            "take the clone of {} from other users",
            source.name
        )))?;
        let mark = fs::read_to_string(directory.join(MARK))
            .map_err(|error| clone.damaged(format!("no mark: {error}")))?;
        if !text::is_hash(&mark) {
            return Err(clone.damaged("its mark is no changeset".to_owned()));
        }
        locks::break_stale(directory).map_err(HgError::io(format!(
            "look at the locks in the clone of {}",
            source.name
        )))?;
        clone.recover().await?;
        let marked = clone
            .find(&mark)
            .await?
            .ok_or_else(|| clone.damaged("its mark is unknown".to_owned()))?;
        (clone.mark, clone.mark_node) = (marked.number, marked.node);
        clone.strip().await?;
        Ok(clone)
    }

    /// Takes away what a build left, in whatever state it left it. A server that has grown large is replaced.
    pub(crate) async fn tidy(&mut self) -> Result<(), HgError> {
        let open = fs::exists(self.directory.join(JOURNAL)).map_err(HgError::io(format!(
            "look for a transaction in the clone of {}",
            self.source.name
        )))?;
        if open {
            // What the server holds in memory may be of that transaction.
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
            // The next build finds a warm one.
            self.tip().await?;
        }
        Ok(())
    }

    /// Takes over what is new at the source. There must be nothing of ours.
    pub(crate) async fn pull(&mut self) -> Result<(), HgError> {
        let ssh = ssh_config(&self.source.ssh);
        // Until the new mark, what comes counts as ours.
        self.dirty = true;
        let output = self
            .server
            .run(&[&ssh, "pull", "--", SOURCE], self.source.limits.transfer)
            .await?;
        if output.code != 0 {
            return Err(outcome::remote_failure(
                Peer::Source,
                &format!("pull {}", self.source.name),
                &output,
            ));
        }
        let tip = self.tip().await?;
        write_atomically(&self.directory.join(MARK), tip.node.as_bytes()).map_err(HgError::io(
            format!("mark the clone of {}", self.source.name),
        ))?;
        (self.mark, self.mark_node) = (tip.number, tip.node);
        self.dirty = false;
        Ok(())
    }

    /// The changesets with these hashes, each once. One that is unknown, or stands for several or none, is left out.
    pub(crate) async fn known(&mut self, hashes: &[Hash]) -> Result<Vec<Changeset>, HgError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = hashes
            .iter()
            .map(|hash| format!("id({})", hash.0))
            .collect();
        let known = self.list(&ids.join("+")).await?;
        // In an empty repository the hash of nothing stands for its tip.
        Ok(known
            .into_iter()
            .filter(|changeset| changeset.number >= 0)
            .collect())
    }

    /// The changeset with this hash, which may have to be pulled. There must be nothing of ours.
    pub(crate) async fn find_or_pull(&mut self, hash: &str) -> Result<Option<Changeset>, HgError> {
        let Some(hash) = Hash::parse(hash) else {
            return Ok(None);
        };
        let hash = [hash];
        if let Some(found) = self.known(&hash).await?.pop() {
            return Ok(Some(found));
        }
        self.pull().await?;
        Ok(self.known(&hash).await?.pop())
    }

    /// The changeset of our own mark.
    async fn find(&mut self, hash: &str) -> Result<Option<Changeset>, HgError> {
        self.look_up(&format!("id({hash})")).await
    }

    /// Whether the history of `newest` holds all of `others`.
    pub(crate) async fn contains(
        &mut self,
        newest: &Changeset,
        others: &[Changeset],
    ) -> Result<bool, HgError> {
        let numbers: Vec<String> = others
            .iter()
            .map(|other| other.number.to_string())
            .collect();
        Ok(self
            .look_up(&format!("({}) - ::{}", numbers.join("+"), newest.number))
            .await?
            .is_none())
    }

    /// The newest changeset in the history of `head` whose date is not after `date`.
    pub(crate) async fn newest_before(
        &mut self,
        head: &Changeset,
        date: Timestamp,
    ) -> Result<Option<Changeset>, HgError> {
        let found = self
            .look_up(&format!(
                "::{} and date('<{} 0')",
                head.number,
                date.as_second()
            ))
            .await?;
        Ok(found.filter(|changeset| changeset.number >= 0))
    }

    /// The changeset that `name` stands for at the source, now. It is pulled if it is not here; there must be nothing of
    /// ours. What the name stands for in the clone says nothing: a bookmark may have been moved or deleted since.
    pub(crate) async fn default_revision(&mut self, name: &str) -> Result<Changeset, HgError> {
        let doing = format!("pull {}", self.source.name);
        let (ssh, rev) = (ssh_config(&self.source.ssh), format!("--rev={name}"));
        let command = [&ssh, "identify", "--template={node}", &rev, "--", SOURCE];
        let output = self
            .server
            .run(&command, self.source.limits.transfer)
            .await?;
        let Some(node) = outcome::identified(&doing, &output)? else {
            let (repository, revision) = (self.source.name.clone(), name.to_owned());
            return Err(HgError::NoDefaultRevision {
                repository,
                revision,
            });
        };
        if node.bytes().all(|byte| byte == b'0') {
            // A repository without changesets.
            return self.tip().await;
        }
        self.find_or_pull(&node)
            .await?
            .ok_or_else(|| HgError::Remote {
                peer: Peer::Source,
                doing,
                words: format!(
                    "{name} is changeset {node} at the source, and a pull did not bring it"
                ),
            })
    }

    /// The newest changeset.
    pub(crate) async fn tip(&mut self) -> Result<Changeset, HgError> {
        let found = self.look_up("tip").await?;
        let doing = format!("find the newest changeset in {}", self.source.name);
        found.ok_or_else(|| HgError::Command {
            doing,
            words: "there is none".to_owned(),
        })
    }

    /// Reads the manifest of a changeset.
    pub(crate) async fn read_manifest(
        &mut self,
        changeset: &Changeset,
        mut reader: ManifestReader,
    ) -> Result<ManifestReader, HgError> {
        let arguments = ["debugdata", "--manifest", "--", changeset.manifest.as_str()];
        let output = self
            .server
            .run_into(&arguments, &mut reader, self.source.limits.command)
            .await?;
        output
            .success(format!("read a manifest in {}", self.source.name))
            .map(|_| reader)
    }

    /// The first `most` bytes of a file. `None` when the changeset has no such file.
    pub(crate) async fn read_file(
        &mut self,
        changeset: &Changeset,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<u8>>, HgError> {
        let (rev, path) = (
            format!("--rev={}", changeset.number),
            format!("path:{path}"),
        );
        let mut head = Head {
            bytes: Vec::new(),
            most,
        };
        let output = self
            .server
            .run_into(
                &["cat", &rev, "--", &path],
                &mut head,
                self.source.limits.command,
            )
            .await?;
        Ok((output.code == 0).then_some(head.bytes))
    }

    /// The sizes of files that a changeset has, in bytes.
    pub(crate) async fn sizes(
        &mut self,
        changeset: &Changeset,
        paths: &[&[u8]],
    ) -> Result<Sizes, HgError> {
        let doing = || format!("read the sizes of files in {}", self.source.name);
        let rev = format!("--rev={}", changeset.number);
        let mut printed = Vec::new();
        for paths in paths.chunks(FILES_AT_ONCE) {
            let named: Vec<Vec<u8>> = paths
                .iter()
                .map(|path| [b"path:".as_slice(), path].concat())
                .collect();
            let mut arguments = vec![
                b"files".as_slice(),
                rev.as_bytes(),
                b"--template={size} {path}\\0",
                b"--",
            ];
            arguments.extend(named.iter().map(Vec::as_slice));
            let mut sink = Vec::new();
            let output = self
                .server
                .run_bytes_into(&arguments, &mut sink, self.source.limits.command)
                .await?;
            output.success(doing())?;
            printed.append(&mut sink);
        }
        let sizes: Sizes = printed
            .split(|&byte| byte == 0)
            .filter_map(size_of_file)
            .collect();
        match paths.iter().find(|path| !sizes.contains_key(**path)) {
            Some(path) => Err(HgError::command(
                doing(),
                format!("there is none of {}", text::path(path)),
            )),
            None => Ok(sizes),
        }
    }

    /// The files that a changeset takes away.
    pub(crate) async fn removed(&mut self, changeset: &Changeset) -> Result<Vec<Vec<u8>>, HgError> {
        let rev = format!("--rev={}", changeset.number);
        let output = self
            .run(
                "look at a changeset",
                &["log", &rev, r#"--template={file_dels % "{file}\0"}"#],
            )
            .await?;
        Ok(output
            .stdout
            .split(|&byte| byte == 0)
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// Makes changesets of a patch on `parent`; what Mercurial says, the caller judges. It may use the
    /// processor time `allowed`; what it used is added to `used`.
    pub(crate) async fn import(
        &mut self,
        parent: &Changeset,
        patch: &[u8],
        options: &[&str],
        allowed: Duration,
        used: &mut Duration,
    ) -> Result<Ended, HgError> {
        // Before the first thing that can be left behind.
        self.dirty = true;
        let path = self.directory.join(PATCH);
        let imported = self
            .import_file(parent, patch, options, &path, allowed, used)
            .await;
        self.remove_patch().and(imported)
    }

    /// Whether Mercurial took as much memory as it may have, when it says that it found no more.
    pub(crate) fn has_grown_too_large(&self) -> bool {
        self.server.has_grown_too_large()
    }

    async fn import_file(
        &mut self,
        parent: &Changeset,
        patch: &[u8],
        options: &[&str],
        path: &Path,
        allowed: Duration,
        used: &mut Duration,
    ) -> Result<Ended, HgError> {
        // In pieces: `fs::write` would copy all of it first.
        let writing = async {
            let mut file = tokio::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)
                .await?;
            file.write_all(patch).await?;
            file.flush().await
        };
        writing
            .await
            .map_err(HgError::io(format!("write {}", path.display())))?;
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
                outcome::is_failing,
                allowed,
                used,
            )
            .await
    }

    /// Removes the patch, which may be a private one by now.
    fn remove_patch(&self) -> Result<(), HgError> {
        match fs::remove_file(self.directory.join(PATCH)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HgError::io(format!(
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
    ) -> Result<CommandOutput, HgError> {
        let output = self.server.run(command, self.source.limits.command).await?;
        output.success(format!("{doing} in {}", self.source.name))
    }

    /// Pushes `head` and what it stands on, by way of `ssh`; what Mercurial says, the caller judges.
    pub(crate) async fn push(
        &mut self,
        head: &str,
        url: &str,
        ssh: &str,
    ) -> Result<CommandOutput, HgError> {
        let (ssh, rev) = (ssh_config(ssh), format!("--rev={head}"));
        self.server
            .run(
                &[&ssh, "push", "--force", &rev, "--", url],
                self.source.limits.transfer,
            )
            .await
    }

    /// Gives the clone up: from now on it cannot be opened, and has to be cloned again.
    pub(crate) fn condemn(&self) -> Result<(), HgError> {
        fs::remove_file(self.directory.join(MARK)).map_err(HgError::io(format!(
            "give up the clone of {}",
            self.source.name
        )))
    }

    /// The number of the newest changeset, when nothing is there of ours.
    pub(crate) fn mark(&self) -> i64 {
        self.mark
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.source.limits
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends the command server.
    pub(crate) async fn close(&mut self) {
        self.server.close().await;
    }

    async fn look_up(&mut self, revision: &str) -> Result<Option<Changeset>, HgError> {
        // The last one of a set, so that one question has one answer.
        Ok(self.list(&format!("last({revision})")).await?.pop())
    }

    async fn list(&mut self, revisions: &str) -> Result<Vec<Changeset>, HgError> {
        let rev = format!("--rev={revisions}");
        let template = r#"--template={node} {rev} {p1node} {manifest % "{node}"} {if(files, "changes", "none")}\n"#;
        let output = self
            .run(&format!("look up {revisions}"), &["log", &rev, template])
            .await?;
        Ok(output.text().lines().filter_map(Changeset::parse).collect())
    }

    async fn recover(&mut self) -> Result<(), HgError> {
        // 1 means that there was nothing to recover.
        let output = self
            .server
            .run(&["recover"], self.source.limits.command)
            .await?;
        match output.words() {
            _ if matches!(output.code, 0 | 1) => Ok(()),
            words if is_full_disk(&words) => Err(HgError::DiskFull {
                doing: format!("recover the clone of {}", self.source.name),
                words,
            }),
            words => Err(self.damaged(words)),
        }
    }

    /// Leaves nothing but what is the source's.
    async fn strip(&mut self) -> Result<(), HgError> {
        self.remove_patch()?;
        let scratch = self.directory.join(SCRATCH);
        disk::blocking(move || disk::empty(&scratch))
            .await
            .map_err(HgError::io(format!(
                "empty the scratch directory of {}",
                self.source.name
            )))?;
        // A parent of the working copy that goes would make Mercurial write a working copy.
        self.run("forget the parent", &["debugsetparents", "--", "null"])
            .await?;
        if self.tip().await?.number > self.mark {
            let rev = format!("--rev={}:", self.mark + 1);
            let command = ["strip", "--no-backup", "--keep", &rev];
            self.run("strip the changesets of a build", &command)
                .await?;
        }
        let tip = self.tip().await?;
        if tip.node != self.mark_node {
            return Err(self.damaged(format!(
                "its newest changeset is {}, not its mark",
                tip.short()
            )));
        }
        self.dirty = false;
        Ok(())
    }

    fn damaged(&self, reason: String) -> HgError {
        HgError::Damaged {
            repository: self.source.name.clone(),
            reason,
        }
    }
}

/// Keeps the beginning of what a command prints.
struct Head {
    bytes: Vec<u8>,
    most: usize,
}

impl Sink for Head {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn take(&mut self, piece: &[u8]) {
        let room = self.most - self.bytes.len();
        self.bytes
            .extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

/// A line of what `hg files` printed.
fn size_of_file(line: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (size, path) = line.split_at_checked(memchr::memchr(b' ', line)?)?;
    Some((
        path[1..].to_vec(),
        std::str::from_utf8(size).ok()?.parse().ok()?,
    ))
}

async fn remove(directory: &Path) -> Result<(), HgError> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HgError::io(format!(
            "remove {}",
            directory.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// How Mercurial is to call ssh, for one command. It is said to each, since what one was told holds for later ones.
fn ssh_config(ssh: &str) -> String {
    format!("--config=ui.ssh={ssh}")
}
