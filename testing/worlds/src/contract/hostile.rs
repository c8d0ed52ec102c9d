//! Patches that a version control by itself may commit, and that must not be.

use crate::{Repository, Side, World, add, add_mode};

const LINK: &str = "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+/tmp\n\\ No newline at end of file\n";

fn one_line(path: &str) -> String {
    add(path, "evil")
}

/// The case, the patches of a stack, and what its author reads.
type Row = (&'static str, Vec<String>, String);

fn row(case: &'static str, patches: &[&str], expected: &str) -> Row {
    let patches = patches.iter().map(|&patch| patch.to_owned());
    (case, patches.collect(), expected.to_owned())
}

fn paths() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        (
            "the parent directory",
            "../x",
            "../x: the path has an empty, `.` or `..` component",
        ),
        (
            "within the path",
            "a/../../x",
            "a/../../x: the path has an empty",
        ),
        ("the directory itself", "./x", "./x: the path has an empty"),
        ("an empty component", "a//x", "a//x: the path has an empty"),
        ("an absolute path", "/tmp/x", "/tmp/x: the path is absolute"),
        ("a drive", "C:/x", "C:/x: the path names a drive"),
        ("backslashes", "..\\x", "..\\x: the path has an empty"),
        (
            "a NUL in a name",
            "a\0b",
            r"a\u{0}b: the name holds a control character",
        ),
        (
            "below a link of the base",
            "baselink/x",
            "baselink/x: it and baselink cannot both be files",
        ),
        (
            "below a file of the base",
            "hello.txt/x",
            "hello.txt/x: it and hello.txt cannot both be files",
        ),
        (
            "a file for a directory",
            "folder",
            "folder: it and folder/file cannot both be files",
        ),
    ]
    .map(|(case, path, expected)| row(case, &[&one_line(path)], expected))
    .into();
    // Whichever it is: somebody may have a checkout of the other one.
    for own in [".hg", ".git"] {
        let inside = |path: &str| format!("{path}: the path leads into ");
        for (case, path) in [
            ("its own directory", format!("{own}/hooks")),
            ("in another case", format!("{}/hooks", own.to_uppercase())),
            (
                "with characters of no width",
                format!("{own}\u{200c}/hooks"),
            ),
            ("a nested repository", format!("sub/{own}/hooks")),
            ("an NTFS stream", format!("{own}::$INDEX_ALLOCATION/hooks")),
            ("dots at the end", format!("{own}../hooks")),
        ] {
            let expected = inside(&path.replace('\u{200c}', r"\u{200c}"));
            rows.push((case, vec![one_line(&path)], expected));
        }
        let rename = format!(
            "diff --git a/hello.txt b/{own}/hooks\nrename from hello.txt\nrename to {own}/hooks\n"
        );
        let expected = inside(&format!("{own}/hooks"));
        rows.push(("a rename into its own directory", vec![rename], expected));
    }
    rows
}

fn contents() -> Vec<Row> {
    let modify = "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -1,2 +1,2 @@\n-line 1\n+line one\n line 2\n";
    let binary = "diff --git a/data.bin b/data.bin\n";
    vec![
        row(
            "a submodule",
            &[&add_mode("m", "Subproject commit 1234", "160000")],
            "m: it is a",
        ),
        row(
            "below a link of the same patch",
            &[&format!("{LINK}{}", one_line("link/x"))],
            "link: it and link/x cannot both be files",
        ),
        row(
            "below a link of an earlier patch",
            &[LINK, &one_line("link/x")],
            "link/x: it and link cannot both be files",
        ),
        row(
            "below a link that a rename takes away and a change keeps",
            &[&format!(
                "diff --git a/baselink b/moved\nrename from baselink\nrename to moved\n\
                 diff --git a/baselink b/baselink\nold mode 120000\nnew mode 120000\n{}",
                one_line("baselink/x")
            )],
            "baselink: the patch moves it away and changes it",
        ),
        row(
            "below a link that replaces a file",
            &[&format!(
                "diff --git a/hello.txt b/hello.txt\ndeleted file mode 100644\n--- a/hello.txt\n+++ /dev/null\n@@ -1,2 +0,0 @@\n\
                 -line 1\n-line 2\n{}{}",
                LINK.replace("link", "hello.txt"),
                one_line("hello.txt/x")
            )],
            "hello.txt: it and hello.txt/x cannot both be files",
        ),
        row(
            "no change",
            &["diff --git a/hello.txt b/hello.txt\n"],
            "hello.txt: the patch names the file but",
        ),
        row(
            "a binary file without data",
            &[&format!(
                "{binary}Binary files a/data.bin and b/data.bin differ\n"
            )],
            "data.bin: the content of a binary file is missing",
        ),
        row(
            "a binary file that was lost",
            &[&format!(
                "{binary}index 0000000..0000000\nGIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n"
            )],
            "data.bin: the content of a binary file is missing",
        ),
        row(
            "data that are not zlib",
            &[&format!(
                "{binary}index 1..2\nGIT binary patch\nliteral 4\nD00000\n\n"
            )],
            "data.bin: a binary patch cannot be unpacked",
        ),
        row(
            "a mail",
            &[&format!(
                "From: Eve <eve@example.org>\nSubject: hello\n\n{modify}"
            )],
            "no place in a git patch: From: Eve",
        ),
        row(
            "a file without its own header",
            &[&format!(
                "{modify}--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+evil\n"
            )],
            "this line has no place in a git patch: --- /dev/null",
        ),
    ]
}

pub async fn hostile_paths_are_refused_by_name<S: Side>() {
    refused::<S>(paths()).await;
}

pub async fn hostile_contents_are_refused<S: Side>() {
    refused::<S>(contents()).await;
}

async fn refused<S: Side>(rows: Vec<Row>) {
    let mut world = World::<S>::new();
    world.source.put("folder/file", b"x");
    std::os::unix::fs::symlink("/tmp", world.source.path().join("baselink")).unwrap();
    let base = world.source.commit_all("a link and a directory");
    world.start();
    for (number, (case, patches, expected)) in (100..).step_by(10).zip(rows) {
        let stack: Vec<_> = (number..)
            .zip(patches)
            .map(|(number, patch)| world.patch(number, patch))
            .collect();
        let last = stack.last().unwrap().revision_id;
        let failure = world.patch_failed(&world.build_of(stack)).await;
        let summary = format!("The patch of D{last} is refused.");
        assert!(failure.summary.starts_with(&summary), "{case}: {failure:?}");
        assert!(failure.details.contains(&expected), "{case}: {failure:?}");
    }
    world.nothing_was_pushed();
    world.until_tidy(&world.own_clone(), &base).await;
    world.stop().await;
}
