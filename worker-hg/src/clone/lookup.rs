//! Queries of a clone: changesets, and the files that they have.

use jiff::Timestamp;
use worker::{
    Peer, WorkerError, patch::stack_size::Sizes, revision::RevisionName, text, vcs::CommitPatch,
};

use super::{HgClone, ssh_config};
use crate::{
    branches,
    changeset::Changeset,
    framing::Sink,
    manifest::ManifestReader,
    messages::{self, Success},
    remote,
    transport::address::SOURCE,
};

/// The most files of one query. If a query has 100 or more, Mercurial goes through all files of the repository for
/// each.
const FILES_AT_ONCE: usize = 99;

impl HgClone {
    /// The changesets with these hashes, each once. A hash that is unknown or ambiguous is left out, and so is the null
    /// hash.
    pub(crate) async fn known(
        &mut self,
        hashes: &[RevisionName],
    ) -> Result<Vec<Changeset>, WorkerError> {
        if hashes.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = hashes
            .iter()
            .map(|hash| format!("id({})", hash.as_str()))
            .collect();
        let known = self.list(&ids.join("+")).await?;
        // In an empty repository the null hash stands for its tip.
        Ok(known
            .into_iter()
            .filter(|changeset| changeset.number >= 0)
            .collect())
    }

    /// The changeset with this hash; pulled if the clone lacks it. The clone must hold nothing of a build.
    pub(crate) async fn find_or_pull(
        &mut self,
        hash: &str,
    ) -> Result<Option<Changeset>, WorkerError> {
        let Some(hash) = RevisionName::parse(hash) else {
            return Ok(None);
        };
        let hash = [hash];
        if let Some(found) = self.known(&hash).await?.pop() {
            return Ok(Some(found));
        }
        self.pull().await?;
        Ok(self.known(&hash).await?.pop())
    }

    /// The changeset with this hash. It becomes a part of a revset, so it must not be foreign input.
    pub(super) async fn find(&mut self, hash: &str) -> Result<Option<Changeset>, WorkerError> {
        self.look_up(&format!("id({hash})")).await
    }

    /// Whether the history of the changeset with the number `newest` holds all those with the numbers `others`.
    pub(crate) async fn contains(
        &mut self,
        newest: i64,
        others: &[i64],
    ) -> Result<bool, WorkerError> {
        let numbers: Vec<String> = others.iter().map(ToString::to_string).collect();
        let missing = format!("({}) - ::{newest}", numbers.join("+"));
        Ok(self.look_up(&missing).await?.is_none())
    }

    /// The changeset with this whole hash, which the clone must have.
    pub(crate) async fn changeset(&mut self, hash: &str) -> Result<Changeset, WorkerError> {
        let found = self.find(hash).await?;
        found.ok_or_else(|| {
            let doing = format!("find a changeset in {}", self.source.name);
            messages::command_failure(doing, format!("the clone has no changeset {hash}"))
        })
    }

    /// The newest changeset in the history of `head` whose date is not after `date`.
    pub(crate) async fn newest_before(
        &mut self,
        head: &Changeset,
        date: Timestamp,
    ) -> Result<Option<Changeset>, WorkerError> {
        let found = self
            .look_up(&format!(
                "::{} and date('<{} 0')",
                head.number,
                date.as_second()
            ))
            .await?;
        Ok(found.filter(|changeset| changeset.number >= 0))
    }

    /// The changeset that `name` stands for at the source, now. It is pulled if the clone lacks it; the clone must hold
    /// nothing of a build. The meaning of the name in the clone does not count: a bookmark may have been moved or
    /// deleted since.
    pub(crate) async fn default_revision(&mut self, name: &str) -> Result<Changeset, WorkerError> {
        let doing = format!("pull {}", self.source.name);
        let (ssh, rev) = (ssh_config(&self.source.ssh), format!("--rev={name}"));
        let command = [&ssh, "identify", "--template={node}", &rev, "--", SOURCE];
        let output = self
            .server
            .run(&command, self.source.limits.transfer)
            .await?;
        let Some(node) = remote::identified(&doing, &output)? else {
            let (repository, revision) = (self.source.name.clone(), name.to_owned());
            return Err(WorkerError::NoDefaultRevision {
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
            .ok_or_else(|| WorkerError::Remote {
                peer: Peer::Source,
                doing,
                words: format!(
                    "{name} is changeset {node} at the source, and a pull did not bring it"
                ),
            })
    }

    /// The newest changeset.
    pub(crate) async fn tip(&mut self) -> Result<Changeset, WorkerError> {
        let found = self.look_up("tip").await?;
        let doing = format!("find the newest changeset in {}", self.source.name);
        found.ok_or_else(|| messages::command_failure(doing, "there is none".to_owned()))
    }

    /// Reads the manifest of a changeset.
    pub(crate) async fn read_manifest(
        &mut self,
        changeset: &Changeset,
        mut reader: ManifestReader,
    ) -> Result<ManifestReader, WorkerError> {
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
    ) -> Result<Option<Vec<u8>>, WorkerError> {
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

    /// The changesets after `base` up to `head`; see [`worker::vcs::VcsClone::export`].
    pub(crate) async fn export(
        &mut self,
        base: &str,
        head: &str,
        limit: usize,
    ) -> Result<Option<Vec<CommitPatch>>, WorkerError> {
        let doing = || format!("export changesets of {}", self.source.name);
        let rev = format!("--rev={base}::{head} - {base}");
        let template = r"--template=\0{node}\0{author}\0{word(0, hgdate(date))}\0{desc}\0";
        let mut printed = Head {
            bytes: Vec::new(),
            most: limit.saturating_add(1),
        };
        let output = self
            .server
            .run_into(
                &["log", "--patch", "--git", &rev, template],
                &mut printed,
                self.source.limits.command,
            )
            .await?;
        output.success(doing())?;
        if printed.bytes.len() > limit {
            return Ok(None);
        }
        let mut commits = CommitPatch::read_all(&printed.bytes).ok_or_else(|| {
            messages::command_failure(doing(), "its output cannot be read".to_owned())
        })?;
        for commit in &mut commits {
            // Mercurial prints an empty line behind a patch.
            commit.diff.pop();
        }
        Ok(Some(commits))
    }

    /// The sizes of files that a changeset has, in bytes.
    pub(crate) async fn sizes(
        &mut self,
        changeset: &Changeset,
        paths: &[&[u8]],
    ) -> Result<Sizes, WorkerError> {
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
            Some(path) => Err(messages::command_failure(
                doing(),
                format!("Mercurial printed none for {}", text::path(path)),
            )),
            None => Ok(sizes),
        }
    }

    /// The files that a changeset deletes.
    pub(crate) async fn removed(
        &mut self,
        changeset: &Changeset,
    ) -> Result<Vec<Vec<u8>>, WorkerError> {
        let rev = format!("--rev={}", changeset.number);
        let output = self
            .run(
                "read the deleted files of a changeset",
                &["log", &rev, r#"--template={file_dels % "{file}\0"}"#],
            )
            .await?;
        Ok(output
            .stdout
            .split(|&byte| byte == 0)
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// The open branches of the clone.
    pub(crate) async fn branches(&mut self) -> Result<Vec<String>, WorkerError> {
        let output = self.run("list the branches", &branches::COMMAND).await?;
        Ok(branches::names(&output))
    }

    async fn look_up(&mut self, revision: &str) -> Result<Option<Changeset>, WorkerError> {
        // `last` reduces a set to one changeset.
        Ok(self.list(&format!("last({revision})")).await?.pop())
    }

    async fn list(&mut self, revisions: &str) -> Result<Vec<Changeset>, WorkerError> {
        let rev = format!("--rev={revisions}");
        let template = r#"--template={node} {rev} {p1node} {manifest % "{node}"} {if(files, "changes", "none")}\n"#;
        let output = self
            .run(&format!("look up {revisions}"), &["log", &rev, template])
            .await?;
        Ok(output.text().lines().filter_map(Changeset::parse).collect())
    }
}

/// Keeps the beginning of a command's output.
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

/// Reads an entry of the output of `hg files`.
fn size_of_file(line: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (size, path) = line.split_at_checked(memchr::memchr(b' ', line)?)?;
    Some((
        path[1..].to_vec(),
        std::str::from_utf8(size).ok()?.parse().ok()?,
    ))
}
