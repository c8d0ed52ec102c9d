//! Patches that Mercurial would commit, and that must not be.

use std::path::Path;

use crate::world::{World, add, add_mode, hg, run_hg_with};

const LINK: &str = "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+/tmp\n\\ No newline at end of file\n";

fn one_line(path: &str) -> String {
    add(path, "evil")
}

/// What `hg import --bypass` makes of a patch by itself.
#[derive(Debug, PartialEq)]
enum Alone {
    /// It commits it.
    Commits,
    /// It commits more than once.
    CommitsTwice,
    /// It fails or dies.
    Fails,
}

#[tokio::test]
async fn hostile_patches_are_refused_by_name_though_mercurial_would_commit_them() {
    let mut world = World::new();
    let modify = "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -1,2 +1,2 @@\n-line 1\n+line one\n line 2\n";
    let header_twice = format!(
        "# HG changeset patch\n# User Eve\n\n{modify}\n# HG changeset patch\n{}",
        one_line("x")
    );
    let lost = "diff --git a/data.bin b/data.bin\nindex 0000000..0000000\nGIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n";
    let mail = format!("From: Eve <eve@example.org>\nSubject: hello\n\n{modify}");
    let mime = "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\ndiff --git a/x b/x\nnew file mode=20100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n";
    let hidden = format!("{modify}--- /dev/null\n+++ b/.hg/hgrc\n@@ -0,0 +1 @@\n+evil\n");
    let not_zlib =
        "diff --git a/data.bin b/data.bin\nindex 1..2\nGIT binary patch\nliteral 4\nD00000\n\n";
    use Alone::{Commits, CommitsTwice, Fails};
    let table: Vec<(&str, Vec<String>, Alone, &str)> = vec![
        (
            "its own configuration",
            vec![one_line(".hg/hgrc")],
            Commits,
            ".hg/hgrc: the path leads into Mercurial's own",
        ),
        (
            "in another case",
            vec![one_line(".HG/hgrc")],
            Commits,
            ".HG/hgrc: the path leads into Mercurial's own",
        ),
        (
            "with characters of no width",
            vec![one_line(".h\u{200c}g/hgrc")],
            Commits,
            r".h\u{200c}g/hgrc: the path leads into",
        ),
        (
            "a nested repository",
            vec![one_line("sub/.hg/hgrc")],
            Commits,
            "sub/.hg/hgrc: the path leads into",
        ),
        (
            "a Windows name",
            vec![one_line("HG~1/hgrc")],
            Commits,
            "HG~1/hgrc: the path leads into",
        ),
        (
            "an NTFS stream",
            vec![one_line(".hg::$INDEX_ALLOCATION/hgrc")],
            Commits,
            ".hg::$INDEX_ALLOCATION/hgrc: the path",
        ),
        (
            "dots at the end",
            vec![one_line(".hg../hgrc")],
            Commits,
            ".hg../hgrc: the path leads into",
        ),
        (
            "the parent directory",
            vec![one_line("../x")],
            Commits,
            "../x: the path has an empty, `.` or `..` component",
        ),
        (
            "within the path",
            vec![one_line("a/../../x")],
            Commits,
            "a/../../x: the path has an empty",
        ),
        (
            "the directory itself",
            vec![one_line("./x")],
            Commits,
            "./x: the path has an empty",
        ),
        (
            "an empty component",
            vec![one_line("a//x")],
            Commits,
            "a//x: the path has an empty",
        ),
        (
            "an absolute path",
            vec![one_line("/tmp/x")],
            Commits,
            "/tmp/x: the path is absolute",
        ),
        (
            "a drive",
            vec![one_line("C:/x")],
            Commits,
            "C:/x: the path names a drive",
        ),
        (
            "backslashes",
            vec![one_line("..\\x")],
            Commits,
            "..\\x: the path has an empty",
        ),
        (
            "subrepositories",
            vec![one_line(".hgsub")],
            Commits,
            ".hgsub: it would make subrepositories",
        ),
        (
            "their state",
            vec![one_line(".hgsubstate")],
            Commits,
            ".hgsubstate: it would make subrepositories",
        ),
        (
            "a submodule",
            vec![add_mode("m", "Subproject commit 1234", "160000")],
            Commits,
            "m: it is a git submodule",
        ),
        (
            "a control character",
            vec![one_line("a\u{1b}b")],
            Commits,
            r"a\u{1b}b: the name holds a control character",
        ),
        (
            "a NUL in a name",
            vec![one_line("a\0b")],
            Fails,
            r"a\u{0}b: the name holds a control character",
        ),
        (
            "a rename to its configuration",
            vec![
                "diff --git a/hello.txt b/.hg/hgrc\nrename from hello.txt\nrename to .hg/hgrc\n"
                    .into(),
            ],
            Commits,
            ".hg/hgrc: the path leads",
        ),
        (
            "below a link of the same patch",
            vec![format!("{LINK}{}", one_line("link/x"))],
            Commits,
            "link: it and link/x cannot both be files",
        ),
        (
            "below a link of an earlier patch",
            vec![LINK.into(), one_line("link/x")],
            Commits,
            "link/x: it and link cannot both be files",
        ),
        (
            "below a link of the base",
            vec![one_line("baselink/x")],
            Commits,
            "baselink/x: it and baselink cannot both be files",
        ),
        (
            "below a link that a rename takes away and a change keeps",
            vec![format!(
                "diff --git a/baselink b/moved\nrename from baselink\nrename to moved\n\
                 diff --git a/baselink b/baselink\nold mode 120000\nnew mode 120000\n{}",
                one_line("baselink/x")
            )],
            Commits,
            "baselink: the patch moves it away and changes it",
        ),
        (
            "below a link that does not go",
            vec![format!(
                "diff --git a/baselink b/baselink\ndeleted file mode 120000\n--- a/baselink\n+++ /dev/null\n\
                 @@ -2 +0,0 @@\n-/tmp\n\\ No newline at end of file\n{}",
                one_line("baselink/x")
            )],
            Commits,
            "baselink: the file goes, but not from its first line",
        ),
        (
            "below a link that replaces a file",
            vec![format!(
                "diff --git a/hello.txt b/hello.txt\ndeleted file mode 100644\n--- a/hello.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n\
                 -line 1\n-line 2\n{}{}",
                LINK.replace("link", "hello.txt"),
                one_line("hello.txt/x")
            )],
            Fails,
            "hello.txt: it and hello.txt/x cannot both be files",
        ),
        (
            "below a file of the base",
            vec![one_line("hello.txt/x")],
            Commits,
            "hello.txt/x: it and hello.txt cannot both be files",
        ),
        (
            "a file for a directory",
            vec![one_line("dir")],
            Commits,
            "dir: it and dir/file cannot both be files",
        ),
        (
            "no change",
            vec!["diff --git a/hello.txt b/hello.txt\n".into()],
            Commits,
            "hello.txt: the patch names the file but",
        ),
        (
            "a binary file without data",
            vec![
                "diff --git a/data.bin b/data.bin\nBinary files a/data.bin and b/data.bin differ\n"
                    .into(),
            ],
            Commits,
            "data.bin: the content of a binary file is missing",
        ),
        (
            "a binary file that was lost",
            vec![lost.into()],
            Commits,
            "data.bin: the content of a binary file is missing",
        ),
        (
            "two exports",
            vec![header_twice],
            CommitsTwice,
            "`# HG changeset patch` header",
        ),
        (
            "a mail",
            vec![mail],
            Commits,
            "no place in a git patch: From: Eve",
        ),
        (
            "an encoded mail",
            vec![mime.into()],
            Commits,
            "no place in a git patch: Content-Type",
        ),
        (
            "a file without its own header",
            vec![hidden],
            Commits,
            "this line has no place in a git patch: --- /dev/null",
        ),
        (
            "data that are not zlib",
            vec![not_zlib.into()],
            Fails,
            "data.bin: a binary patch cannot be unpacked",
        ),
    ];
    world.source.write("dir/file", b"x");
    std::os::unix::fs::symlink("/tmp", world.source.path.join("baselink")).unwrap();
    let base = world.source.commit("a link and a directory");
    world.destination.hg(&["pull", "--quiet"]);
    world.start();
    let unguarded = world.path("unguarded");
    world
        .source
        .hg(&["clone", "--quiet", "--noupdate", ".", "../unguarded"]);
    let mut made = 0;
    for (number, (case, patches, alone, expected)) in (100..).step_by(10).zip(table) {
        assert_eq!(
            import_alone(&unguarded, &base, &patches, number, &mut made),
            alone,
            "{case}"
        );
        let stack: Vec<_> = (number..)
            .zip(patches)
            .map(|(number, patch)| world.patch(number, patch))
            .collect();
        let last = stack.last().unwrap().revision_id;
        let failure = world.patch_failed(&world.build_of(stack)).await;
        assert!(
            failure
                .summary
                .starts_with(&format!("The patch of D{last} is refused.")),
            "{case}: {}",
            failure.summary
        );
        assert!(
            failure.details.contains(expected),
            "{case}: {}",
            failure.details
        );
    }
    assert_eq!(world.destination.tip(), base, "nothing was pushed");
    world.until_tidy(&world.own_clone(), &base).await;
    world.stop().await;
}

/// Imports the patches as they are into a clone that nobody guards, and has `made` changesets of these.
fn import_alone(
    clone: &Path,
    base: &str,
    patches: &[String],
    number: u64,
    made: &mut usize,
) -> Alone {
    hg(clone, &["debugsetparents", base]);
    for (index, patch) in patches.iter().enumerate() {
        if index > 0 {
            hg(clone, &["debugsetparents", "tip"]);
        }
        let message = format!("--message=evil {number}");
        let import = ["import", "--bypass", "--user=Eve", &message, "-"];
        if !run_hg_with(clone, &import, patch.as_bytes())
            .status
            .success()
        {
            return Alone::Fails;
        }
    }
    let before = std::mem::replace(
        made,
        hg(clone, &["log", "--rev=draft()", "--template=x"]).len(),
    );
    assert!(*made > before);
    if *made - before == patches.len() {
        Alone::Commits
    } else {
        Alone::CommitsTwice
    }
}
