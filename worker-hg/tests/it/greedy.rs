//! Patches that ask for more than anybody can have: files, time, memory. Each gets one clear answer, and the builds of
//! others behind it go on.

mod time;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use build::{Build, BuildEventKind, BuildUpdate, PatchFailure};
use flate2::{Compression, write::ZlibEncoder};

use crate::world::{World, add, until};

/// The most that an answer may cost: of the disk, and of Mercurial's memory.
const COST: u64 = 300_000_000;

/// Puts a greedy build into the queue and one of another author behind it: the first is its patch's fault, without a
/// second attempt and without a trace, and the other is pushed.
async fn refused_and_the_next_one_pushed(world: &World, greedy: &Build) -> PatchFailure {
    let next = world.build_of(vec![
        world.patch(greedy.request.revision_id + 1000, add("next.txt", "next")),
    ]);
    let before = world.disk_usage();
    for build in [greedy, &next] {
        world.send(build).await;
    }
    let mut failure = None;
    for _ in 0..2 {
        let applied = world.next_update().await;
        match applied.update {
            BuildUpdate::PatchFailed(failed) if applied.request == greedy.request => {
                failure = Some(failed)
            }
            BuildUpdate::Pushed(_) if applied.request == next.request => {}
            other => panic!("{other:?}"),
        }
    }
    let events = world.record(greedy).await.events;
    assert!(
        !events
            .iter()
            .any(|event| matches!(event.kind, BuildEventKind::Failed { .. })),
        "it was tried again: {events:?}"
    );
    for patch in &greedy.stack {
        let of_patch = format!("desc('re:^Bug {} -')", patch.revision_id);
        assert_eq!(
            world.destination.log(&of_patch, "{node}\n"),
            "",
            "it is on Try"
        );
    }
    world
        .until_tidy(&world.own_clone(), &world.source.tip())
        .await;
    let grown = world.disk_usage().saturating_sub(before);
    assert!(grown < 20_000_000, "{grown} bytes are left on the disk");
    failure.expect("its patch's fault")
}

/// As above, for a build that is refused for what it makes, and before Mercurial makes any of it.
async fn makes_too_much(world: &World, greedy: &Build) -> PatchFailure {
    let failure = refused_and_the_next_one_pushed(world, greedy).await;
    let peak = peak_of_servers(&world.settings.clones_dir);
    assert!((1..COST).contains(&peak), "Mercurial took {peak} bytes");
    failure
}

/// The command servers for clones in this directory, as directories of `/proc`.
fn servers(clones: &Path) -> Vec<PathBuf> {
    let clones = clones.to_str().unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let serves = |process: &PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        command.contains(clones) && command.contains("--cmdserver")
    };
    processes.filter(serves).collect()
}

/// The most memory that a command server for a clone in this directory ever had.
fn peak_of_servers(clones: &Path) -> u64 {
    let peak = |process: PathBuf| {
        let status = fs::read_to_string(process.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    servers(clones)
        .into_iter()
        .filter_map(peak)
        .max()
        .unwrap_or_default()
}

impl World {
    /// What the clones, with what Mercurial unpacks there, and Try take on the disk.
    fn disk_usage(&self) -> u64 {
        let directories = [&self.settings.clones_dir, &self.destination.path];
        let output = Command::new("du")
            .args(["--summarize", "--bytes"])
            .args(directories)
            .output()
            .unwrap()
            .stdout;
        let lines = String::from_utf8(output).unwrap();
        lines
            .lines()
            .map(|line| line.split('\t').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// A world with the file `big`, of 13 MB, ready to build.
    async fn with_big_file() -> Self {
        let mut world = Self::new();
        let big: String = (0..500_000).map(big_line).collect();
        assert_eq!(big.len(), 13_000_000);
        world.source.write("big", big.as_bytes());
        world.source.commit("a big file");
        world.destination.hg(&["pull", "--quiet"]);
        world.start_ready().await;
        world
    }
}

fn big_line(number: usize) -> String {
    format!("line {number:>8} of big file\n")
}

fn copy(from: &str, to: &str) -> String {
    format!("diff --git a/{from} b/{to}\ncopy from {from}\ncopy to {to}\n")
}

/// A rename of a copy of `big`, with an edit.
fn rename(from: &str, to: &str) -> String {
    let (line, next) = (big_line(0), big_line(1));
    format!(
        "diff --git a/{from} b/{to}\nrename from {from}\nrename to {to}\n--- a/{from}\n+++ b/{to}\n@@ -1,2 +1,2 @@\n-{line}+line of {to}\n {next}"
    )
}

/// A new binary file.
fn binary(path: &str, content: &[u8]) -> String {
    const DIGITS: &[u8; 85] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    let mut patch = format!(
        "diff --git a/{path} b/{path}\nnew file mode 100644\nGIT binary patch\nliteral {}\n",
        content.len()
    );
    for line in encoder.finish().unwrap().chunks(52) {
        let length = u8::try_from(line.len()).unwrap();
        patch.push(char::from(if length <= 26 {
            b'A' + length - 1
        } else {
            b'a' + length - 27
        }));
        for group in line.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..group.len()].copy_from_slice(group);
            let value = usize::try_from(u32::from_be_bytes(bytes)).unwrap();
            let digit = |power: u32| char::from(DIGITS[value / 85_usize.pow(power) % 85]);
            patch.extend((0..5).rev().map(digit));
        }
        patch.push('\n');
    }
    patch + "\n"
}

#[tokio::test]
async fn copies_of_a_large_file_are_refused_before_they_are_made() {
    let mut world = World::with_big_file().await;
    let copies: String = (0..120)
        .map(|number| copy("big", &format!("copy{number}")))
        .collect();
    let failure = makes_too_much(&world, &world.build_of(vec![world.patch(1, copies)])).await;
    assert_eq!(
        failure.summary,
        "The stack of D1 is refused: the files that it makes are too large."
    );
    assert_eq!(
        failure.details,
        "The files that its patches add, copy, rename or change have 1.6 GB, and 256 MB are allowed.\nThe largest part of \
         that is 1.6 GB in 120 files, which are copies or versions of one: big"
    );
    world.stop().await;
}

#[tokio::test]
async fn binary_files_that_pack_well_are_refused_before_they_are_made() {
    let mut world = World::with_big_file().await;
    let zeros = vec![0; 9 << 20];
    let files: String = (0..28)
        .map(|number| binary(&format!("zeros{number}"), &zeros))
        .collect();
    assert!(files.len() < 400_000, "{}", files.len());
    let failure = makes_too_much(&world, &world.build_of(vec![world.patch(1, files)])).await;
    let largest = "zeros0: it has 9.4 MB when it is unpacked, and all binary files of the stack have more than 256 MB; it \
                   is the largest of them";
    assert_eq!(failure.details, largest);
    // The same in several patches, and as copies of one.
    let stack = (0..28_u64)
        .map(|number| world.patch(10 + number, binary(&format!("zeros{number}"), &zeros)));
    let failure = makes_too_much(&world, &world.build_of(stack.collect())).await;
    assert_eq!(failure.details, largest);
    let copies: String = (0..27)
        .map(|number| copy("zeros", &format!("copy{number}")))
        .collect();
    let stack = vec![
        world.patch(50, binary("zeros", &zeros)),
        world.patch(51, copies),
    ];
    let failure = makes_too_much(&world, &world.build_of(stack)).await;
    assert!(
        failure
            .details
            .contains("28 files, which are copies or versions of one: zeros"),
        "{}",
        failure.details
    );
    world.stop().await;
}

#[tokio::test]
async fn binary_deltas_are_refused() {
    let mut world = World::with_big_file().await;
    let delta = binary("big", &[0; 100])
        .replace("new file mode 100644\n", "")
        .replace("literal 100", "delta 100");
    let stack = vec![world.patch(1, delta.clone()), world.patch(2, delta)];
    let failure = makes_too_much(&world, &world.build_of(stack)).await;
    assert!(
        failure
            .details
            .starts_with("big: a binary patch does not hold the whole file"),
        "{}",
        failure.details
    );
    world.stop().await;
}

#[tokio::test]
async fn stack_whose_patches_make_too_much_together_is_refused() {
    let mut world = World::with_big_file().await;
    let copies: String = (0..8)
        .map(|number| copy("big", &format!("a{number}")))
        .collect();
    let renames = |from: &str, to: &str| {
        (0..8)
            .map(|n| rename(&format!("{from}{n}"), &format!("{to}{n}")))
            .collect::<String>()
    };
    // 104 MB each.
    let stack = vec![
        world.patch(1, copies),
        world.patch(2, renames("a", "b")),
        world.patch(3, renames("b", "c")),
    ];
    let failure = makes_too_much(&world, &world.build_of(stack)).await;
    assert!(
        failure
            .details
            .contains(" have 312 MB, and 256 MB are allowed."),
        "{}",
        failure.details
    );
    world.stop().await;
}

#[tokio::test]
async fn stack_that_makes_as_much_as_is_allowed_is_pushed() {
    let mut world = World::new();
    world.settings.limits.stack_bytes = 39_000_000;
    let big: String = (0..500_000).map(big_line).collect();
    world.source.write("big", big.as_bytes());
    world.source.write("caf\u{e9} path:x", b"x\n");
    world.source.commit("a big file");
    world.destination.hg(&["pull", "--quiet"]);
    world.start_ready().await;
    let stack = |number, more: &str| {
        let copies = copy("a", "b") + &copy("a", "c") + more;
        world.build_of(vec![
            world.patch(number, copy("big", "a")),
            world.patch(number + 1, copies),
        ])
    };
    let too_much = makes_too_much(&world, &stack(1, &copy("caf\u{e9} path:x", "y"))).await;
    assert!(
        too_much
            .details
            .ends_with("39 MB in 3 files, which are copies or versions of one: big"),
        "{}",
        too_much.details
    );
    let pushed = world.pushed(&stack(3, "")).await;
    assert!(world.destination.cat(&pushed.revision, "c") == big.as_bytes());
    world.stop().await;
}

/// Each of these lines becomes some objects in Mercurial.
#[tokio::test]
async fn empty_lines_are_refused_before_they_are_applied() {
    let mut world = World::new();
    world.start_ready().await;
    let lines = |path: &str, count: usize| {
        let header = format!("diff --git a/{path} b/{path}\nnew file mode 100644\n");
        let added = "+\n".repeat(count);
        format!("{header}--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{count} @@\n{added}")
    };
    let greedy = world.build_of(vec![world.patch(1, lines("f", 31 << 20))]);
    let failure = makes_too_much(&world, &greedy).await;
    assert_eq!(
        failure.details,
        "f: the hunks of the stack have more than 2000000 lines up to here"
    );
    assert!(failure.advice.starts_with("Split"), "{}", failure.advice);
    let greedy = world.build_of(vec![
        world.patch(2, lines("f", 1_200_000)),
        world.patch(3, lines("g", 1_200_000)),
    ]);
    let failure = makes_too_much(&world, &greedy).await;
    assert!(failure.details.starts_with("g: "), "{}", failure.details);
    world.stop().await;
}

/// The lines of this patch have one byte each, and Mercurial makes an object of each.
#[tokio::test]
async fn patch_that_takes_too_much_memory_is_refused_and_not_tried_again() {
    let mut world = World::new();
    world.settings.limits.memory = 256 << 20;
    world.start_ready().await;
    let count = 1_900_000;
    let mut patch = format!(
        "diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1,{count} @@\n"
    );
    patch.push_str(&"+\n".repeat(count));
    let greedy = world.build_of(vec![world.patch(1, patch)]);
    let failure = refused_and_the_next_one_pushed(&world, &greedy).await;
    assert_eq!(
        failure.summary,
        "Applying the patch of D1 takes more memory than 268.4 MB."
    );
    world.stop().await;
}

#[tokio::test]
async fn temporary_files_that_a_killed_mercurial_left_are_removed_with_the_next_build() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    let scratch = world.own_clone().path.join(".hg/scratch");
    let here = format!("TMPDIR={}\0", scratch.display());
    let environments = servers(&world.settings.clones_dir)
        .into_iter()
        .map(|server| fs::read(server.join("environ")));
    let environments: Vec<_> = environments
        .map(|bytes| String::from_utf8(bytes.unwrap()).unwrap())
        .collect();
    assert!(
        environments
            .iter()
            .any(|variables| variables.contains(&here)),
        "{environments:?}"
    );
    let left = scratch.join("hg-patch-1");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("0"), "of a private patch").unwrap();
    world.pushed(&world.simple_build(2)).await;
    until("what was left to be gone", || !left.exists()).await;
    world.stop().await;
}
