//! Places that `git apply` chooses, one by one. `tests/differential.rs` compares random ones with Git itself.

use std::{io::Read, sync::Arc, time::Duration};

use worker::{
    Limits,
    patch::{self, Rules},
};

use super::*;

/// Applies these hunks to a file.
fn applied(old: &str, hunks: &str, time: &Time) -> Result<String, TextFault> {
    let patch = format!("diff --git a/f b/f\n--- a/f\n+++ b/f\n{hunks}");
    let rules = Rules::Git { submodules: false };
    let parsed = patch::scan(patch.as_bytes(), &Limits::default(), rules).expect("a good patch");
    let hunks = patch::hunks(patch.as_bytes(), &parsed.files[0]);
    let image = apply(old.as_bytes(), hunks, time)?;
    let mut read = Vec::new();
    image.reader().read_to_end(&mut read).expect("read");
    assert_eq!((read.len(), &read), (image.size(), &image.content()));
    Ok(String::from_utf8(read).expect("text"))
}

#[test]
fn hunks_find_the_place_that_git_chooses() {
    let equal = "x\na\nz\n";
    type Case<'a> = (&'a str, String, &'a str, Result<&'a str, &'a [usize]>);
    let table: [Case<'_>; 13] = [
        (
            "the named line, though there is an earlier place",
            equal.repeat(3),
            "@@ -5,2 +5,2 @@\n-a\n+b\n z\n",
            Ok("x\na\nz\nx\nb\nz\nx\na\nz\n"),
        ),
        (
            "the nearest place behind",
            equal.repeat(3),
            "@@ -4,2 +4,2 @@\n-a\n+b\n z\n",
            Ok("x\na\nz\nx\nb\nz\nx\na\nz\n"),
        ),
        (
            "the nearest place before",
            equal.repeat(3),
            "@@ -6,2 +6,2 @@\n-a\n+b\n z\n",
            Ok("x\na\nz\nx\nb\nz\nx\na\nz\n"),
        ),
        (
            "the later one of two that are equally near",
            "a\nz\n1\n2\na\nz\n".to_owned(),
            "@@ -3,2 +3,2 @@\n-a\n+b\n z\n",
            Ok("a\nz\n1\n2\nb\nz\n"),
        ),
        (
            "the line of the new file counts",
            equal.repeat(3),
            "@@ -2,2 +8,2 @@\n-a\n+b\n z\n",
            Ok("x\na\nz\nx\na\nz\nx\nb\nz\n"),
        ),
        (
            "a line behind the end of the file",
            equal.repeat(2),
            "@@ -90,2 +90,2 @@\n-a\n+b\n z\n",
            Ok("x\na\nz\nx\nb\nz\n"),
        ),
        (
            "a place before an earlier hunk",
            equal.repeat(2),
            "@@ -5,2 +5,2 @@\n-a\n+b\n z\n@@ -5,2 +5,2 @@\n-a\n+c\n z\n",
            Ok("x\nc\nz\nx\nb\nz\n"),
        ),
        (
            "not the context of an earlier hunk",
            "a\nz\n".to_owned(),
            "@@ -1 +1,2 @@\n+y\n a\n@@ -2,2 +2,2 @@\n a\n-z\n+b\n",
            Err(&[2]),
        ),
        (
            "the beginning for line 1",
            "x\na\nz\n".to_owned(),
            "@@ -1,2 +1,2 @@\n-a\n+b\n z\n",
            Err(&[1]),
        ),
        (
            "the end without context behind the change",
            "a\nx\n".to_owned(),
            "@@ -2 +2 @@\n-a\n+b\n@@ -2 +2 @@\n-x\n+y\n",
            Err(&[1]),
        ),
        (
            "lines without old ones at the end",
            "a\n".to_owned(),
            "@@ -7,0 +8 @@\n+b\n",
            Ok("a\nb\n"),
        ),
        (
            "a last line without a break",
            "a\nb".to_owned(),
            "@@ -1,2 +1,2 @@\n-a\n+c\n b\n\\ No newline at end of file\n",
            Ok("c\nb"),
        ),
        (
            "no line that goes on",
            "a\nbc\n".to_owned(),
            "@@ -1,2 +1,2 @@\n-a\n+c\n b\n\\ No newline at end of file\n",
            Err(&[1]),
        ),
    ];
    for (case, old, hunks, expected) in table {
        let expected = expected
            .map(str::to_owned)
            .map_err(|hunks| TextFault::Misfits(hunks.to_vec()));
        assert_eq!(applied(&old, hunks, &Time::ample()), expected, "{case}");
    }
}

#[test]
fn search_in_hostile_files_ends_with_the_time() {
    let line = "a\n";
    let context = " a\n".repeat(1000);
    let hunk = format!("@@ -500,1001 +500,1002 @@\n{context}+c\n b\n");
    let time = Time::new(Duration::from_millis(20), Arc::default());
    assert_eq!(
        applied(&line.repeat(1_000_000), &hunk.repeat(500), &time),
        Err(TextFault::Over)
    );
}

#[test]
fn hunk_far_from_its_line_is_found_among_equal_lines() {
    let count = 300_000;
    let old = "a\n".repeat(count) + "b\n" + &"a\n".repeat(count);
    let context = " a\n".repeat(1000);
    let hunk = format!("@@ -2,1001 +2,1002 @@\n{context}+c\n b\n");
    let expected = "a\n".repeat(count) + "c\nb\n" + &"a\n".repeat(count);
    let made = applied(&old, &hunk, &Time::ample());
    assert!(made == Ok(expected), "the hunk is at its place");
}
