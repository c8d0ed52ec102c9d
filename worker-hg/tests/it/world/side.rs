//! Mercurial, as the suite for every version control needs it.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tempfile::TempDir;
use worker::{Backend, RepositorySettings, source_tip};
use worker_hg::Mercurial;
use worlds::{Commit, Damage, Moment, Repository, Side, base_files, copy_directory, hanging_hook};

use super::{Repo, hg};

/// Mercurial, with the program that the worker runs.
pub struct Hg {
    pub program: PathBuf,
}

impl Default for Hg {
    fn default() -> Self {
        Self {
            program: "hg".into(),
        }
    }
}

impl Side for Hg {
    type Repo = Repo;

    const OWN_DIRECTORY: &'static str = ".hg";

    fn create(&mut self, source: &Repo, destination: &Repo) {
        copy_directory(&template().join("source"), &source.path);
        copy_directory(&template().join("try"), &destination.path);
        let paths = format!(
            "[paths]\ndefault = {}\n[phases]\npublish = false\n",
            source.path.display()
        );
        fs::write(destination.path.join(".hg/hgrc"), paths).unwrap();
    }

    fn configure(_: &mut RepositorySettings) {}

    fn backend(&self) -> Backend {
        Backend::new(Arc::new(Mercurial::with_program(&self.program)))
    }

    fn plant(&self, source: &Repo, clone: &Repo) {
        fs::create_dir_all(clone.path.parent().unwrap()).unwrap();
        copy_directory(&template().join("clone"), &clone.path);
        let paths = format!("[paths]\ndefault = {}\n", source.path.display());
        fs::write(clone.path.join(".hg/hgrc"), paths).unwrap();
    }

    fn is_tidy(clone: &Repo, tip: &str) -> bool {
        clone.tip() == tip
    }

    fn hang_transfers(&mut self, source: &Repo, note: &Path) {
        let hook = hanging_hook(note);
        source.configure(&format!("[hooks]\npreoutgoing.hang = {hook}\n"));
    }

    fn let_transfers_end(&mut self, source: &Repo) {
        source.configure("[hooks]\npreoutgoing.hang =\n");
    }

    fn damages() -> Vec<Damage> {
        vec![
            ("no source tip", |clone| {
                fs::remove_file(clone.join("source-tip")).unwrap()
            }),
            ("a source tip that is unknown", |clone| {
                fs::write(clone.join("source-tip"), "1".repeat(40)).unwrap()
            }),
            ("no changelog", |clone| {
                fs::write(clone.join(".hg/store/00changelog.i"), "junk").unwrap()
            }),
            ("no repository", |clone| {
                fs::remove_dir_all(clone.join(".hg")).unwrap()
            }),
        ]
    }

    fn damage_hello(clone: &Repo) {
        // The file's history: it is only read when a patch changes the file.
        let history = clone.path.join(".hg/store/data/hello.txt.i");
        let mut bytes = fs::read(&history).unwrap();
        let end = bytes.len();
        bytes[end - 10..].fill(0x55);
        // It may be a hard link to the source's.
        fs::remove_file(&history).unwrap();
        fs::write(&history, bytes).unwrap();
    }
}

impl Repository for Repo {
    fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn address(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    fn commit_on(&self, message: &str, date: &str) -> String {
        let (date, message) = (format!("--date={date}"), format!("--message={message}"));
        let commit = ["commit", "--addremove", "--quiet", "--user=src"];
        self.hg(&[&commit[..], &[&date, &message]].concat());
        self.tip()
    }

    fn newest(&self) -> String {
        self.tip()
    }

    fn go_to(&self, revision: &str) {
        self.hg(&["update", "--quiet", revision]);
    }

    fn name(&self, name: &str, revision: &str) {
        self.hg(&["bookmark", "--force", "--rev", revision, name]);
    }

    fn unname(&self, name: &str) {
        self.hg(&["bookmark", "--delete", name]);
    }

    fn lose_newest(&self) {
        let strip = ["--config=extensions.strip=", "strip", "--quiet"];
        self.hg(&[&strip[..], &["--no-backup", "tip"]].concat());
    }

    fn content(&self, revision: &str, path: &str) -> Vec<u8> {
        self.cat(revision, path)
    }

    fn is_plain_file(&self, revision: &str, path: &str) -> bool {
        let kinds = self.hg(&["manifest", "--verbose", "--rev", revision]);
        kinds.lines().any(|line| line == format!("644   {path}"))
    }

    fn history(&self, base: &str, head: &str) -> Vec<Commit> {
        let template =
            "{node}\\0{p1node}\\0{author}\\0{date|hgdate}\\0{desc}\\0{join(files, '\\t')}\\0";
        let log = self.log(&format!("{base}::{head} - {base}"), template);
        let fields: Vec<&str> = log.split_terminator('\0').collect();
        let (commits, rest) = fields.as_chunks::<6>();
        assert!(rest.is_empty(), "{log}");
        let commit = |[id, parent, author, date, message, files]: &[&str; 6]| Commit {
            id: (*id).to_owned(),
            parent: (*parent).to_owned(),
            author: (*author).to_owned(),
            date: date.strip_suffix(" 0").unwrap().parse().unwrap(),
            message: (*message).to_owned(),
            files: files.split('\t').map(str::to_owned).collect(),
        };
        commits.iter().map(commit).collect()
    }

    fn pushed(&self) -> Vec<String> {
        // The beginning is the source's.
        let heads = self.log("heads(all()) - 0", "{node}\n");
        heads.lines().map(str::to_owned).collect()
    }

    fn hook(&self, moment: Moment, script: &str) {
        self.unhook();
        let name = match moment {
            Moment::BeforePush => "pretxnchangegroup",
            Moment::AfterPush => "changegroup",
        };
        self.configure(&format!("[hooks]\n{name}.suite = {script}\n"));
    }

    fn unhook(&self) {
        self.configure("[hooks]\npretxnchangegroup.suite =\nchangegroup.suite =\n");
    }

    fn verify(&self) {
        self.hg(&["verify", "--quiet"]);
    }
}

/// What is made of the first of them.
const REPOSITORIES: [&str; 3] = ["source", "try", "clone"];

/// A source, a Try repository and a clone of the source as every world begins with them. Made once, and kept beside what is built.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        base_files().hash(&mut hasher);
        (REPOSITORIES, source_tip::FILE).hash(&mut hasher);
        let made =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hg-world-{:x}", hasher.finish()));
        if !made.exists() {
            let making = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let source = Repo::init(making.path().join("source"));
            for (path, content) in base_files() {
                source.write(path, &content);
            }
            source.commit("the beginning");
            for clone in &REPOSITORIES[1..] {
                let clone_it = ["clone", "--quiet", "--noupdate", "source", clone];
                hg(making.path(), &clone_it);
            }
            source_tip::write(&making.path().join("clone"), &source.tip()).unwrap();
            // Another process may have been faster: its template is as good.
            if fs::rename(making.path(), &made).is_ok() {
                let _ = making.keep();
            }
        }
        made
    })
}
