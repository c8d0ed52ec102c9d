//! The attacks by hostile patches and fields that Mercurial would carry out, their guards, and the tests that fail
//! without them.
//!
//! | attack that worked | guard | test |
//! | --- | --- | --- |
//! | `--config=alias.x=!cmd` as an argument of its own | `HGPLAIN=+strictflags` | [`option_in_an_options_place_is_a_value`] |
//! | the same behind a NUL in a field | `CommandServer` refuses NUL; it is replaced in messages and dropped from names | [`argument_with_a_nul_is_never_sent`], `it::stacks::no_field_of_a_build…` |
//! | a revset, or `ffff…`, as a base | 12 to 40 hex digits, in `id(…)` | `it::bases::substitute::default_revision_is_used…`, [`only_a_whole_hash_is_a_revision`] |
//! | `.hg/hgrc`, `../x`, `/x`, `.hgsub`, … as a name | `patch::path` | `patch::path::tests::…`, `it::hostile::hostile_patches…` |
//! | submodules, empty commits, lost binary files, two exports, mails | `patch` | `patch::tests::malformed_and_hostile_patches_are_refused`, `it::hostile::…` |
//! | a file below a file or a symbolic link | `patch::path_tree` | `path_tree::tests::no_file_lies_below_another`, `it::hostile::…` |
//! | a file that is replaced, whatever its lines are | `patch::replace`, and the worker compares the deleted lines | `patch::tests::replaced_file…`, `it::reports::additions…` |
//! | a file that is moved away and stays | `patch::scan` | `patch::tests::malformed_and_hostile…`, `it::hostile::…` |
//! | any other patch that Mercurial reads differently than we do | all of `patch` | `tests::differential::…` |
//! | two commits from one patch | the number of the newest changeset after an import | `it::hostile_hg::…` ("a result that is not true") |
//! | an empty message that opens an editor | messages end with a line of ours; `HGEDITOR=false` | [`no_editor_is_opened`] |
//! | a newline in an author | `text::author` | `text::tests::authors_are_one_line`, `it::stacks::no_field_of_a_build…` |
//! | authors, messages and patches beyond ASCII | `HGENCODING=UTF-8`; patches are bytes | `it::stacks::no_field…`, `it::stacks::patch_of_many_lines_and_odd_bytes…` |
//! | our environment, `~/.hgrc`, another `hg` in `PATH` | a cleared environment | `it::hostile_environment::…` |
//! | a forged server | `web.cacerts`; ssh's options and `known_hosts` | `it::hostile_environment::…`, `worker::ssh::tests::…` |
//! | a key that other users can read, or that is not removed | a directory 0700, a file 0600, removed on drop | `worker::ssh::tests::…` |
//! | patches, stacks and paths without end | `Limits`, `patch::path` | [`limits_are_those_of_the_contract`], `patch::tests::…`, `it::stacks::stack_that_is_too_large…` |
//! | copies of large files, and binary files that compress well: gigabytes in the clone, in memory and on Try | `Limits::stack_bytes` | `stack_size::tests::…`, `it::greedy::copies…`, `it::greedy::binary_files…`, `it::greedy::stack…` |
//! | hunks that fit nowhere or far away, searched for hours | `search`; processor time of the command server | `search::tests::…`, `it::greedy::time::hunks…`, `it::greedy::time::patches_that_take_too_long…` |
//! | lines, of which each becomes an object in memory | a limit of lines for each stack; memory of the command server | `it::greedy::empty_lines…`, `it::greedy::patch_that_takes_too_much_memory…` |
//! | one author's builds that use up all of the time | processor time for each author, `processor_time` | `it::greedy::time::builds_of_an_author…` |
//! | a Mercurial that breaks its protocol or hangs | `framing`, deadlines, process groups | `framing::tests::…`, `it::hostile_hg::…` |

use std::{fs, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;
use worker::{Limits, WorkerError, process::CommandOutput, text::is_hash};

use crate::command_server::CommandServer;

/// Long enough for any command here; one that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(30);

struct Lab {
    home: TempDir,
    server: CommandServer,
}

impl Lab {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let repository = home.path().join("repository");
        let made = Command::new("hg")
            .arg("init")
            .arg(&repository)
            .env("HGRCPATH", "")
            .status()
            .expect("Mercurial");
        assert!(made.success());
        Self {
            server: CommandServer::new("hg".into(), None, repository, Limits::default().memory),
            home,
        }
    }

    async fn run(&mut self, arguments: &[&str]) -> Result<CommandOutput, WorkerError> {
        self.server.run(arguments, DEADLINE).await
    }

    /// A file, and an option that turns `command` into an alias that makes this file.
    fn alias(&self, command: &str) -> (PathBuf, String) {
        let touched = self.home.path().join("touched");
        let option = format!("--config=alias.{command}=!touch {}", touched.display());
        (touched, option)
    }
}

#[tokio::test]
async fn option_in_an_options_place_is_a_value() {
    let mut lab = Lab::new();
    let (touched, option) = lab.alias("log");
    lab.run(&["log", "--template", &option])
        .await
        .expect("an answer");
    lab.run(&["log", "--", &option]).await.expect("an answer");
    lab.run(&["log"]).await.expect("an answer");
    assert!(!touched.exists());
}

#[tokio::test]
async fn argument_with_a_nul_is_never_sent() {
    let mut lab = Lab::new();
    let (touched, option) = lab.alias("log");
    let message = format!("--template=x\0{option}");
    let refused = lab.run(&["log", &message]).await;
    assert!(
        matches!(refused, Err(WorkerError::Argument { .. })),
        "{refused:?}"
    );
    assert!(!lab.server.is_up(), "nothing was even started");
    lab.run(&["log"]).await.expect("an answer");
    assert!(!touched.exists());
}

#[tokio::test]
async fn no_editor_is_opened() {
    let mut lab = Lab::new();
    let patch = lab.home.path().join("patch");
    fs::write(&patch, "diff --git a/f b/f\nnew file mode 100644\n").expect("written");
    let import = [
        "import",
        "--bypass",
        "--message=",
        "--user=Ada",
        "--",
        &patch.display().to_string(),
    ];
    let output = lab.run(&import).await.expect("an answer");
    assert_eq!(
        (output.code, output.words().as_str()),
        (255, "abort: edit failed: false exited with status 1")
    );
}

#[test]
fn only_a_whole_hash_is_a_revision() {
    let hash = "0123456789abcdef0123456789abcdef01234567";
    assert!(is_hash(hash));
    let upper = hash.to_uppercase();
    let longer = format!("{hash}0");
    let line = format!("{hash}\n");
    for text in [
        "",
        "tip",
        "0",
        "all()",
        &hash[..12],
        &hash[1..],
        &upper,
        &longer,
        &line,
        "０123456789abcdef0123456789abcdef01234",
    ] {
        assert!(!is_hash(text), "{text:?}");
    }
}

#[test]
fn limits_are_those_of_the_contract() {
    let limits = Limits::default();
    assert_eq!(
        (limits.patch_bytes, limits.patches, limits.files),
        (64 << 20, 100, 20_000)
    );
    assert_eq!(
        (limits.stack_bytes, limits.lines, limits.memory),
        (256_000_000, 2_000_000, 3 << 30)
    );
    assert_eq!(
        (limits.apply_time, limits.search_time, limits.author_time),
        (
            Duration::from_secs(60),
            Duration::from_secs(3),
            Duration::from_secs(120)
        )
    );
}
