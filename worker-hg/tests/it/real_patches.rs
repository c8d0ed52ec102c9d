//! Patches as a real Phorge wrote them.

use build::BuildUpdate;
use serde_json::Value;

use crate::world::{World, fixture};

fn recorded(name: &str) -> Vec<u8> {
    let exchange: Value =
        serde_json::from_slice(&fixture(&format!("differential.getrawdiff.{name}.json"))).unwrap();
    exchange["response"]["result"]
        .as_str()
        .unwrap()
        .as_bytes()
        .to_vec()
}

fn numbered(prefix: &str, count: u32, replaced: &[(u32, &str)]) -> Vec<u8> {
    let line = |n| {
        let replacement = replaced.iter().find(|(at, _)| *at == n);
        replacement.map_or_else(
            || format!("{prefix} {n}\n"),
            |(_, text)| format!("{text}\n"),
        )
    };
    (1..=count).map(line).collect::<String>().into_bytes()
}

/// What a file has to be: `None` when it is gone, else its bytes and its flags.
type Expected = (&'static str, Option<(Vec<u8>, &'static str)>);

fn plain(path: &'static str, content: impl Into<Vec<u8>>) -> Expected {
    (path, Some((content.into(), "")))
}

#[tokio::test]
async fn each_is_applied_byte_by_byte() {
    let unicode = |last: &str| {
        plain(
            "unicode.txt",
            format!("héllo wörld\nсъешь ещё\n日本語 テキスト\n{last}\n"),
        )
    };
    let renamed = || {
        plain(
            "new_name.txt",
            numbered("rename me", 6, &[(3, "renamed 3")]),
        )
    };
    let renames = || {
        vec![
            renamed(),
            ("old_name.txt", None),
            plain("dir_pure.txt", "pure\n"),
            ("old_pure.txt", None),
            plain("copydst.txt", numbered("copy src", 7, &[(4, "copied 4")])),
            plain("copysrc.txt", numbered("copy src", 7, &[])),
        ]
    };
    let ends = || {
        vec![
            plain("with space.txt", "a\nb\nc"),
            plain("noeol.txt", "alpha\nBETA\ngamma2"),
            plain("addnoeol.txt", "x"),
        ]
    };
    let data = || plain("data.bin", fixture("data.bin.after"));
    let stack = |lines: &[(u32, &str)]| vec![plain("stack.txt", numbered("stack line", 10, lines))];
    let (two, five, nine) = (
        (2, "stack line two"),
        (5, "stack line five"),
        (9, "stack line nine"),
    );
    let table: Vec<(&[&str], Vec<Expected>)> = vec![
        (
            &["simple"],
            vec![plain(
                "hello.txt",
                numbered("line", 20, &[(5, "line five")]),
            )],
        ),
        (
            &["nocommit"],
            vec![plain(
                "hello.txt",
                numbered("line", 20, &[(9, "line nine")]),
            )],
        ),
        (&["unicode"], vec![unicode("ünïcödé 🎉 テスト")]),
        (&["raw-unicode"], vec![unicode("ünïcödé 🎉 テスト")]),
        (
            &["latin1"],
            vec![plain("latin1.txt", "café crème\nplain à\nthird\n")],
        ),
        (
            &["crlf"],
            vec![plain("crlf.txt", "one\r\nTWO\r\nthree\r\nfour\r\nfive\r\n")],
        ),
        (
            &["raw-crlf"],
            vec![plain("crlf.txt", "one\r\nTWO\r\nthree\r\nfour\r\nfive\r\n")],
        ),
        (&["noeol"], ends()),
        (&["raw-noeol"], ends()),
        (&["rename"], renames()),
        (&["raw-rename"], renames()),
        (
            &["binary"],
            vec![plain("new.bin", fixture("new.bin")), data()],
        ),
        (
            &["mixed"],
            vec![
                unicode("ünïcödé 🎉"),
                plain("noeol.txt", "alpha\nBETA\ngamma2"),
                renamed(),
                data(),
                plain("crlf.txt", "one\r\nTWO\r\nthree\r\nfour\r\n"),
            ],
        ),
        (
            &["modes"],
            vec![
                ("todelete.txt", None),
                ("script.sh", Some((b"#!/bin/sh\n".to_vec(), "x"))),
                ("link.txt", Some((b"hello.txt".to_vec(), "l"))),
                plain("formfeed.txt", "a\n\x0cb\n"),
                plain("empty.txt", ""),
            ],
        ),
        (&["stack1"], stack(&[two])),
        (&["stack1", "stack2"], stack(&[two, five])),
        (&["stack1", "stack2", "stack3"], stack(&[two, five, nine])),
    ];
    let mut world = World::new();
    world.start();
    for (number, (names, files)) in (1..).step_by(10).zip(table) {
        let patches = (number..)
            .zip(names)
            .map(|(number, name)| world.patch(number, recorded(name)))
            .collect();
        let pushed = world.pushed(&world.build_of(patches)).await;
        assert_eq!(pushed.patches, names.len());
        let kinds = world
            .destination
            .hg(&["manifest", "--debug", "--rev", &pushed.revision]);
        for (path, expected) in files {
            let line = kinds.lines().find(|line| line.get(47..) == Some(path));
            let flags = line.map(|line| match &line[41..47] {
                "644   " => "",
                "755 * " => "x",
                "644 @ " => "l",
                other => panic!("{names:?}, {path}: {other:?}"),
            });
            let found = flags.map(|flags| (world.destination.cat(&pushed.revision, path), flags));
            assert_eq!(found, expected, "{names:?}, {path}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn patch_without_its_binary_content_is_refused() {
    let mut world = World::new();
    world.start();
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(7, recorded("raw-binary"))]))
        .await;
    assert_eq!(failure.summary, "The patch of D7 is refused.");
    assert!(
        failure.details.starts_with("new.bin: the content"),
        "{}",
        failure.details
    );
    world.stop().await;
}

#[tokio::test]
async fn renames_and_copies_are_known_as_such() {
    let mut world = World::new();
    world.start();
    let update = world
        .build(&world.build_of(vec![world.patch(7, recorded("rename"))]))
        .await;
    let BuildUpdate::Pushed(pushed) = update else {
        panic!("{update:?}")
    };
    let parent = format!("p1({})", pushed.revision);
    let copies = world
        .destination
        .log(&parent, "{file_copies % '{source} > {name}\n'}");
    let mut copies: Vec<&str> = copies.lines().collect();
    copies.sort_unstable();
    assert_eq!(
        copies,
        [
            "copysrc.txt > copydst.txt",
            "old_name.txt > new_name.txt",
            "old_pure.txt > dir_pure.txt"
        ]
    );
    world.stop().await;
}
