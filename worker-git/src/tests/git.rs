//! Git as a child process, and repositories for it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use gix::{ObjectId, Repository, objs::tree::EntryKind};
use tempfile::TempDir;

use super::trees::{File, Files};

/// Repositories that share objects: those of the trees that patches are applied on.
pub(super) struct Lab {
    home: TempDir,
    /// The trees that patches are applied on.
    pub(super) bases: Repository,
    /// The trees that patches make, so that `git apply` does not find them.
    pub(super) edits: Repository,
    /// The repository in which we apply patches.
    pub(super) ours: Repository,
    runs: u32,
}

impl Lab {
    pub(super) fn new() -> Self {
        let home = match Path::new("/dev/shm").is_dir() {
            true => TempDir::new_in("/dev/shm"),
            false => TempDir::new(),
        }
        .unwrap();
        let open = |name: &str| {
            let path = home.path().join(name);
            for directory in ["objects/info", "refs"] {
                fs::create_dir_all(path.join(directory)).unwrap();
            }
            fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
            let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
            fs::write(path.join("config"), config).unwrap();
            if name != "bases" {
                let objects = home.path().join("bases/objects");
                let alternates = format!("{}\n", objects.display());
                fs::write(path.join("objects/info/alternates"), alternates).unwrap();
            }
            let options = gix::open::Options::isolated().open_path_as_is(true);
            options.open(path).unwrap().to_thread_local()
        };
        Self {
            bases: open("bases"),
            edits: open("edits"),
            ours: open("ours"),
            home,
            runs: 0,
        }
    }

    fn git(&self, repository: &str) -> Command {
        let mut command = Command::new("git");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_DIR", self.home.path().join(repository))
            .current_dir(self.home.path());
        command
    }

    /// The patches from one tree to another, for each pair.
    pub(super) fn diff(&self, options: &[&str], pairs: &[(ObjectId, ObjectId)]) -> Vec<Vec<u8>> {
        let heads: Vec<String> = pairs
            .iter()
            .map(|(old, new)| format!("{old} {new}\n"))
            .collect();
        let mut command = self.git("edits");
        command
            .args([
                "diff-tree",
                "--stdin",
                "-r",
                "-p",
                "--binary",
                "--full-index",
            ])
            .args(options);
        let output = run(&mut command, heads.concat().as_bytes());
        assert!(output.status.success(), "{output:?}");
        let mut rest = output.stdout.as_slice();
        let mut patches = Vec::new();
        for (index, head) in heads.iter().enumerate() {
            // Git prints nothing about equal trees.
            let Some(patch) = rest.strip_prefix(head.as_bytes()) else {
                patches.push(Vec::new());
                continue;
            };
            let end = heads[index + 1..]
                .iter()
                .filter_map(|head| memchr::memmem::find(patch, head.as_bytes()))
                .min()
                .unwrap_or(patch.len());
            patches.push(patch[..end].to_vec());
            rest = &patch[end..];
        }
        patches
    }

    /// What `git apply` makes of files with a patch, as the entries of its index; or its message.
    pub(super) fn apply(
        &mut self,
        files: &Files,
        patch: &[u8],
        with_tree: bool,
    ) -> Result<(Entries, Option<ObjectId>), String> {
        self.runs += 1;
        let (index, objects) = (self.path("index"), self.path("new-objects"));
        fs::write(&index, index_of(files)).unwrap();
        fs::create_dir_all(&objects).unwrap();
        let private = |command: &mut Command| {
            command
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", &objects)
                .env(
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                    self.home.path().join("bases/objects"),
                );
        };
        let mut command = self.git("ours");
        private(command.args(["apply", "--cached", "--binary", "-"]));
        let output = run(&mut command, patch);
        let result = match output.status.success() {
            true => Ok(entries_of(&fs::read(&index).unwrap())),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        };
        let result = result.map(|entries| {
            let tree = with_tree.then(|| {
                let mut command = self.git("ours");
                private(command.args(["write-tree", "--missing-ok"]));
                let output = run(&mut command, b"");
                assert!(output.status.success(), "{output:?}");
                ObjectId::from_hex(output.stdout.trim_ascii()).unwrap()
            });
            (entries, tree)
        });
        fs::remove_dir_all(&objects).unwrap();
        result
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}-{}", self.runs))
    }
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A child that has failed already reads nothing.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// The mode, the object and the path of each file, in the order of the paths.
pub(super) type Entries = Vec<(u32, ObjectId, Vec<u8>)>;

/// Git's index of these files: https://git-scm.com/docs/index-format, version 2.
fn index_of(files: &Files) -> Vec<u8> {
    let mut index = b"DIRC\0\0\0\x02".to_vec();
    index.extend(u32::try_from(files.len()).unwrap().to_be_bytes());
    for (path, file) in files {
        let start = index.len();
        index.extend([0; 24]);
        index.extend(mode(file.kind).to_be_bytes());
        index.extend([0; 12]);
        index.extend(file.id().as_bytes());
        index.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
        index.extend(path);
        let length = index.len() - start;
        index.resize(start + (length + 8) / 8 * 8, 0);
    }
    // Git does not check the sum.
    index.extend([0; 20]);
    index
}

fn entries_of(index: &[u8]) -> Entries {
    let number = |at: usize| u32::from_be_bytes(index[at..at + 4].try_into().unwrap());
    assert_eq!((&index[..4], number(4)), (&b"DIRC"[..], 2));
    let mut entries = Vec::new();
    let mut at = 12;
    for _ in 0..number(8) {
        let id = ObjectId::from_bytes_or_panic(&index[at + 40..at + 60]);
        let path = index[at + 62..].split(|&byte| byte == 0).next().unwrap();
        entries.push((number(at + 24), id, path.to_vec()));
        at += (62 + path.len() + 8) / 8 * 8;
    }
    entries
}

pub(super) fn mode(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Tree => 0o040_000,
        EntryKind::Blob => 0o100_644,
        EntryKind::BlobExecutable => 0o100_755,
        EntryKind::Link => 0o120_000,
        EntryKind::Commit => 0o160_000,
    }
}

/// Writes a tree with these files.
pub(super) fn write(repository: &Repository, files: &Files) -> ObjectId {
    let empty = repository.empty_tree();
    let mut editor = empty.edit().unwrap().detach();
    for (path, File { kind, content }) in files {
        if *kind != EntryKind::Commit {
            repository.write_blob(content).unwrap();
        }
        let names = path.split(|&byte| byte == b'/').map(gix::bstr::BStr::new);
        editor.upsert(names, *kind, files[path].id()).unwrap();
    }
    editor
        .write(|tree| repository.write_object(tree).map(gix::Id::detach))
        .unwrap()
}

/// The entries of a tree.
pub(super) fn entries(repository: &Repository, tree: ObjectId) -> Entries {
    let mut found = Vec::new();
    let mut trees = vec![(tree, Vec::new())];
    while let Some((tree, prefix)) = trees.pop() {
        let tree = repository.find_tree(tree).unwrap();
        for entry in tree.iter() {
            let entry = entry.unwrap();
            let path = [&prefix, entry.inner.filename.as_ref() as &[u8]].concat();
            let (kind, id) = (entry.inner.mode.kind(), entry.inner.oid.to_owned());
            match kind {
                EntryKind::Tree => trees.push((id, [path, b"/".to_vec()].concat())),
                _ => found.push((mode(kind), id, path)),
            }
        }
    }
    found.sort_by(|one, other| one.2.cmp(&other.2));
    found
}
