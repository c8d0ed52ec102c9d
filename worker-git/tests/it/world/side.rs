//! Git, as the suite for every version control needs it.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use worker::{Backend, GitSettings, RepositorySettings, TryMode, VcsSettings};
use worker_git::Git;
use worlds::{Commit, Damage, Moment, Repository, Side, base_files, hanging_hook, numbered};

use super::Repo;

/// Git, with the program that the worker runs.
pub struct GitSide {
    pub program: PathBuf,
}

impl Default for GitSide {
    fn default() -> Self {
        Self {
            program: "git".into(),
        }
    }
}

impl Side for GitSide {
    type Repo = Repo;

    const OWN_DIRECTORY: &'static str = ".git";

    fn create(&mut self, source: &Repo, destination: &Repo) {
        source.init();
        for (path, content) in base_files() {
            source.write(path, &content);
        }
        source.write("dir/sub/file.txt", numbered("deep", 5).as_bytes());
        source.commit("the beginning");
        destination.init_bare();
    }

    fn configure(repository: &mut RepositorySettings) {
        repository.vcs = VcsSettings::Git(GitSettings::default());
        repository.default_revision = repository.vcs.default_revision().to_owned();
        repository.mode = TryMode::None;
    }

    fn backend(&self) -> Backend {
        Backend::new(Arc::new(Git::with_program(&self.program)))
    }

    fn is_tidy(clone: &Repo, _: &str) -> bool {
        !clone.path.join("builds").exists()
    }

    fn hang_transfers(&mut self, source: &Repo, note: &Path) {
        let (program, hook) = (
            source.path.with_file_name("hanging-git"),
            hanging_hook(note),
        );
        let script = format!(
            "#!/bin/sh\nfor word; do [ \"$word\" != fetch ] || {{ {hook}; }}; done\nexec git \"$@\"\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self.program = program;
    }

    fn let_transfers_end(&mut self, _: &Repo) {
        *self = Self::default();
    }

    fn damages() -> Vec<Damage> {
        vec![
            ("an empty HEAD", |clone| {
                fs::write(clone.join(".git/HEAD"), "").unwrap();
            }),
            ("a truncated pack", |clone| {
                let pack = packs(clone).pop().unwrap();
                let file = File::options().write(true).open(&pack).unwrap();
                file.set_len(file.metadata().unwrap().len() - 7).unwrap();
            }),
            ("no packs", |clone| {
                fs::remove_dir_all(clone.join(".git/objects")).unwrap();
                fs::create_dir_all(clone.join(".git/objects/pack")).unwrap();
            }),
            ("a branch that names nothing", |clone| {
                fs::write(clone.join(".git/refs/heads/x"), "").unwrap();
            }),
            ("garbage for a configuration", |clone| {
                fs::write(clone.join(".git/config"), [0, 255]).unwrap();
            }),
            ("no source tip", |clone| {
                fs::remove_file(clone.join("source-tip")).unwrap();
            }),
        ]
    }

    fn damage_hello(clone: &Repo) {
        for pack in packs(&clone.path) {
            let mut bytes = fs::read(&pack).unwrap();
            // Not the checksum at the end.
            let end = bytes.len() - 20;
            bytes[12..end].fill(0x55);
            fs::write(&pack, bytes).unwrap();
        }
    }
}

/// The packs of a clone, which can be written to from now on.
fn packs(clone: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(clone.join(".git/objects/pack")).unwrap();
    let paths = entries.flatten().map(|entry| entry.path());
    let packs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "pack"))
        .collect();
    for pack in &packs {
        fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
    }
    packs
}

impl Repository for Repo {
    fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn address(&self) -> String {
        self.url()
    }

    fn commit_on(&self, message: &str, date: &str) -> String {
        self.commit_at(message, date)
    }

    fn newest(&self) -> String {
        self.tip()
    }

    fn go_to(&self, revision: &str) {
        // A clone follows branches.
        let branch = format!("from-{revision}");
        self.git(&["checkout", "--quiet", "-B", &branch, revision]);
    }

    fn name(&self, name: &str, revision: &str) {
        self.git(&["branch", "--force", name, revision]);
    }

    fn unname(&self, name: &str) {
        self.git(&["branch", "--quiet", "-D", name]);
    }

    fn lose_newest(&self) {
        self.git(&["reset", "--quiet", "--hard", "HEAD^"]);
    }

    fn content(&self, revision: &str, path: &str) -> Vec<u8> {
        self.output(&["cat-file", "blob", &format!("{revision}:{path}")])
    }

    fn is_plain_file(&self, revision: &str, path: &str) -> bool {
        let entry = self.git(&["ls-tree", revision, "--", path]);
        entry.starts_with("100644 blob ")
    }

    fn history(&self, base: &str, head: &str) -> Vec<Commit> {
        let ids = self.git(&["rev-list", "--reverse", &format!("{base}..{head}")]);
        let commit = |id: &str| {
            let format = "--format=%P%x00%an <%ae>%x00%at%x00%ct%x00%B";
            let fields = self.git(&["show", "--no-patch", format, id]);
            let [parent, author, date, committed, message] = fields
                .splitn(5, '\0')
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            assert_eq!(date, committed);
            let names = ["diff-tree", "-r", "-z", "--name-only", "--no-commit-id", id];
            let files = self.git(&names);
            Commit {
                id: id.to_owned(),
                parent: parent.to_owned(),
                author: author.trim_end_matches(" <>").to_owned(),
                date: date.parse().unwrap(),
                message: message.to_owned(),
                files: files.split_terminator('\0').map(str::to_owned).collect(),
            }
        };
        ids.lines().map(commit).collect()
    }

    fn pushed(&self) -> Vec<String> {
        let heads = self.git(&["for-each-ref", "--format=%(objectname)", "refs/heads"]);
        heads.lines().map(str::to_owned).collect()
    }

    fn hook(&self, moment: Moment, script: &str) {
        let name = match moment {
            Moment::BeforePush => "pre-receive",
            Moment::AfterPush => "post-receive",
        };
        Repo::hook(self, name, script);
    }

    fn unhook(&self) {
        Repo::unhook(self);
    }

    fn verify(&self) {
        self.git(&["fsck", "--strict"]);
    }
}
