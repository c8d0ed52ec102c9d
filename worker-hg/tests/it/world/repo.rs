//! A repository, and the commands of the tests on it.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// A repository that tests make and look at.
pub struct Repo {
    pub path: PathBuf,
}

impl Repo {
    pub fn init(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        hg(&path, &["init"]);
        Self { path }
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits the working copy, on a fixed date.
    pub fn commit(&self, message: &str) -> String {
        hg(
            &self.path,
            &[
                "commit",
                "--addremove",
                "--quiet",
                "--user=src",
                "--date=0 0",
                "--message",
                message,
            ],
        );
        self.tip()
    }

    pub fn hg(&self, arguments: &[&str]) -> String {
        hg(&self.path, arguments)
    }

    pub fn log(&self, revisions: &str, template: &str) -> String {
        self.hg(&["log", "--rev", revisions, "--template", template])
    }

    pub fn node(&self, revision: &str) -> String {
        self.log(revision, "{node}")
    }

    /// The newest changeset, as the index of the changelog has it: tests ask for it hundreds of times, some in a loop.
    pub fn tip(&self) -> String {
        const NULL: &str = "0000000000000000000000000000000000000000";
        // https://www.mercurial-scm.org/wiki/RevlogNG: an entry has 64 bytes, with the length of its data at 8 and its
        // hash at 32; the data follows it when the flag for that is set.
        const ENTRY: usize = 64;
        let index = match fs::read(self.path.join(".hg/store/00changelog.i")) {
            Ok(index) => index,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("{}: {error}", self.path.display()),
        };
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let is_inline = index.len() >= ENTRY && number(&index[..4]) & (1 << 16) != 0;
        let (mut tip, mut rest) = (NULL.to_owned(), index.as_slice());
        while let Some((entry, data)) = rest.split_at_checked(ENTRY) {
            tip = entry[32..52]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let skipped = if is_inline { number(&entry[8..12]) } else { 0 };
            rest = data.get(skipped..).unwrap_or_default();
        }
        tip
    }

    /// A file's bytes in a changeset.
    pub fn cat(&self, revision: &str, path: &str) -> Vec<u8> {
        run_hg(
            &self.path,
            &["cat", "--rev", revision, &format!("path:{path}")],
        )
        .stdout
    }

    pub fn heads(&self) -> usize {
        self.log("heads(all())", "x").len()
    }

    /// Adds to the repository's own configuration, as its owner may.
    pub fn configure(&self, text: &str) {
        let path = self.path.join(".hg/hgrc");
        let old = fs::read_to_string(&path).unwrap_or_default();
        fs::write(path, format!("{old}\n{text}")).unwrap();
    }
}

/// Runs Mercurial as the tests need it; it must succeed.
pub fn hg(directory: &Path, arguments: &[&str]) -> String {
    let output = run_hg(directory, arguments);
    assert!(
        output.status.success(),
        "hg {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub fn run_hg(directory: &Path, arguments: &[&str]) -> Output {
    run_hg_with(directory, arguments, b"")
}

pub fn run_hg_with(directory: &Path, arguments: &[&str], stdin: &[u8]) -> Output {
    // The tests run hundreds of short commands: `chg` has each done by a process that has started already.
    let mut child = Command::new("chg")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HGRCPATH", chg_settings())
        .env("HGPLAIN", "1")
        .env("HGENCODING", "UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

/// The configuration of the tests' commands: chg's process ends soon after them.
fn chg_settings() -> &'static Path {
    static SETTINGS: OnceLock<PathBuf> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        file.write_all(b"[chgserver]\nidletimeout = 30\n").unwrap();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chg.rc");
        file.persist(&path).unwrap();
        path
    })
}
