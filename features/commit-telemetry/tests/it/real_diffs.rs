//! Diffs of a real Mercurial, compared with its own counts.

use std::{fs, os::unix::fs::PermissionsExt};

use commit_telemetry::Diffstat;

use crate::{hg::Hg, peers::Peers};

/// Compares the counts of these changesets, from a real hgweb, with those of `hg diff --stat`.
async fn compare(hg: &mut Hg, encoding: &str, nodes: &[(&str, String)]) {
    let peers = Peers::start().await;
    let hgweb = peers.hgweb();
    let repository = hg.serve(encoding).await;
    for (name, node) in nodes {
        let changeset = hgweb.changeset(&repository, node).await.unwrap();
        assert_eq!(changeset.node.as_str(), node);
        let counted = hgweb.diffstat(&repository, &changeset).await;
        let counted =
            counted.unwrap_or_else(|error| panic!("{name}: {}", runtime::error_chain(&error)));
        assert_eq!(counted, hg.stat(node), "{name}");
    }
}

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

#[tokio::test]
async fn every_kind_of_change_is_counted_as_by_mercurial() {
    let mut hg = Hg::new();
    let mut nodes = Vec::new();
    let mut commit = |hg: &Hg, name: &'static str| nodes.push((name, hg.commit(name)));
    hg.write("a.txt", lines(0..50));
    hg.write("dir/with spaces and ünïcode €.txt", lines(0..9));
    hg.write("empty", "");
    hg.write("binary", (0..=255).cycle().take(5000).collect::<Vec<u8>>());
    hg.write("crlf", "a\r\nb\r\nc\r\n");
    commit(&hg, "the first changeset, with new files of all kinds");
    hg.write(
        "a.txt",
        lines(0..10) + "new\n" + &lines(12..50) + "no newline at the end",
    );
    commit(&hg, "a newline at the end of the file is missing");
    hg.write(
        "a.txt",
        lines(0..10) + "new\n" + &lines(12..50) + "no newline at the end, still",
    );
    commit(&hg, "it is still missing");
    hg.write("crlf", "a\r\nb\nc\r\nd\r\n");
    commit(&hg, "line ends change");
    hg.run(&["rename", "a.txt", "b.txt"]);
    commit(&hg, "a file is renamed");
    hg.run(&["rename", "b.txt", "dir/c.txt"]);
    hg.write("dir/c.txt", lines(0..30) + "changed\n" + &lines(31..50));
    commit(&hg, "a file is renamed and changed");
    hg.run(&["copy", "dir/c.txt", "copy.txt"]);
    hg.run(&["copy", "binary", "copy.bin"]);
    commit(&hg, "files are copied");
    hg.write(
        "binary",
        (0..=255).rev().cycle().take(90_000).collect::<Vec<u8>>(),
    );
    commit(&hg, "a binary changes");
    fs::set_permissions(hg.path("copy.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    commit(&hg, "a mode changes");
    fs::remove_file(hg.path("copy.txt")).unwrap();
    std::os::unix::fs::symlink("empty", hg.path("copy.txt")).unwrap();
    commit(&hg, "a file becomes a link");
    hg.write(
        "sql",
        "-- comment\n--- three\n++ plus\n+++ b/x\n@@ -1,1 +1,1 @@\ndiff --git a/x b/x\n\n \\ no\n",
    );
    commit(&hg, "a file that looks like a diff is new");
    hg.write("sql", "-- other\n+++ b/y\n--- a/y\n@@ -9 +9 @@\ndiff --git a/y b/y\nrename from x\nGIT binary patch\n");
    commit(&hg, "a file that looks like a diff changes");
    fs::remove_file(hg.path("sql")).unwrap();
    fs::remove_file(hg.path("empty")).unwrap();
    fs::remove_file(hg.path("binary")).unwrap();
    commit(&hg, "files are removed");
    hg.write("long", "x".repeat(1 << 20) + "\n" + &"y".repeat(1 << 20));
    hg.write("odd b/name", "diff --git a/odd b/odd b/name b/x\n");
    commit(&hg, "long lines, and a name that looks like two");
    for number in 0..300 {
        hg.write(&format!("many/{number}"), lines(0..number));
    }
    commit(&hg, "many files");
    hg.run(&["branch", "--quiet", "other"]);
    nodes.push(("nothing but a branch", hg.commit("nothing but a branch")));
    compare(&mut hg, "UTF-8", &nodes).await;
}

#[tokio::test]
async fn line_after_lone_carriage_return_counts_once() {
    let mut hg = Hg::new();
    hg.write("file", "a\r+b\r-c\r\nd\n");
    let node = hg.commit("Bug 5");
    assert_eq!(
        hg.stat(&node),
        Diffstat {
            changed_files: 1,
            additions: 3,
            deletions: 1
        }
    );
    let peers = Peers::start().await;
    let repository = hg.serve("UTF-8").await;
    let changeset = peers.hgweb().changeset(&repository, &node).await.unwrap();
    let counted = peers
        .hgweb()
        .diffstat(&repository, &changeset)
        .await
        .unwrap();
    assert_eq!(
        counted,
        Diffstat {
            changed_files: 1,
            additions: 2,
            deletions: 0
        }
    );
}

#[tokio::test]
async fn merges_are_counted_against_their_first_parent() {
    let mut hg = Hg::new();
    let mut nodes = Vec::new();
    hg.write("a", "1\n2\n3\n4\n5\n");
    let base = hg.commit("base");
    hg.write("a", "1\n2\n3\n4\nfive\n");
    hg.write("left", "l\n");
    hg.commit("left");
    hg.run(&["update", "--quiet", &base]);
    hg.write("a", "one\n2\n3\n4\n5\n");
    hg.write("right", "r\nr\n");
    hg.commit("right");
    hg.run(&["merge", "--quiet", "--tool=internal:merge"]);
    nodes.push(("merge", hg.commit("Merge")));
    hg.run(&["update", "--quiet", &base]);
    hg.write("third", "t\n");
    hg.commit("third");
    hg.run(&["merge", "--quiet", "--tool=internal:merge", &nodes[0].1]);
    hg.write("a", "both\n");
    nodes.push((
        "merge of the merge, with changes of its own",
        hg.commit("Merge again\n\nwith a body"),
    ));
    compare(&mut hg, "UTF-8", &nodes).await;
}

/// Descriptions that resemble the rest of the answer.
const DESCRIPTIONS: [(&str, &[u8]); 9] = [
    (
        "a diff",
        b"Bug 5 - x\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\n+b",
    ),
    (
        "nothing but a diff",
        b"diff --git a/x b/x\n@@ -0,0 +1,1 @@\n+a",
    ),
    (
        "an incomplete hunk",
        b"Bug 5\n\n\ndiff --git a/x b/x\n@@ -1,9 +1,9 @@\n-a",
    ),
    (
        "a header",
        b"# HG changeset patch\n# User x\n# Parent  0\n\n\n# Node ID 1",
    ),
    ("empty lines", b"Bug 5\n\n\n\n\n\nend"),
    ("carriage returns", b"Bug 5\r\n\r\nbody\rmore\r\n"),
    ("spaces at line ends", b"  Bug 5  \n \n\t\nbody  \n\n\n"),
    (
        "unicode",
        "Bug 5 \u{2028} \u{85} ünïcode €\n\n😀".as_bytes(),
    ),
    ("separators", b"Bug 5 \x0b \x0c \x1c \x1d \x1e end\n\nbody"),
];

async fn compare_descriptions(encoding: &str) {
    let mut hg = Hg::new();
    let mut nodes = Vec::new();
    for (number, (name, description)) in DESCRIPTIONS.iter().enumerate() {
        hg.write("file", format!("{number}\n").repeat(number + 1));
        nodes.push((*name, hg.commit(description)));
    }
    compare(&mut hg, encoding, &nodes).await;
}

#[tokio::test]
async fn description_resembling_a_diff_is_not_counted() {
    compare_descriptions("UTF-8").await;
}

#[tokio::test]
async fn count_is_independent_of_server_encoding() {
    compare_descriptions("ascii").await;
    compare_descriptions("latin-1").await;
}

#[tokio::test]
async fn megabyte_description_is_skipped() {
    let mut hg = Hg::new();
    hg.write("file", "1\n");
    let nodes = [("long", hg.commit("diff --git a/x b/x\n".repeat(60_000)))];
    compare(&mut hg, "UTF-8", &nodes).await;
}
