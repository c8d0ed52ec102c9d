//! A Mercurial that has gone mad: whatever its command server says in the middle of an import, the worker neither hangs
//! nor dies nor grows, and goes on with the next one.

use std::{env, fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use build::BuildUpdate;

use crate::world::{World, fixture};

/// The time for an import that never ends. The attempt after it has `IMPORT`, which is enough on the busiest machine.
const ENDLESS: Duration = Duration::from_secs(1);
const IMPORT: Duration = Duration::from_secs(60);

/// A world whose Mercurial does what is written in the file that comes with it.
fn mad_world() -> (World, PathBuf) {
    let mut world = World::new();
    let program = world.path("mad-hg");
    fs::write(&program, fixture("hostile-hg.py")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    world.side.program = program;
    let behaviour = world.path("behaviour");
    (world, behaviour)
}

/// Set in the process that a test starts for itself.
const ALONE: &str = "HOSTILE_HG_ALONE";

/// Whether this process runs nothing but this test. If not, runs the test in such a process; it must succeed there.
fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("hostile_hg::{test}");
    let run = Command::new(env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let [stdout, stderr] =
        [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        run.status.success() && stdout.contains("1 passed"),
        "{stdout}\n{stderr}"
    );
    false
}

/// Does a build for each behaviour. The attempt that meets it may take `import` and fails; the attempt after it pushes.
async fn outlives(import: Duration, behaviours: &[&str]) {
    let (mut world, note) = mad_world();
    for (number, behaviour) in (1..).zip(behaviours) {
        fs::write(&note, behaviour).unwrap();
        let build = world.simple_build(number);
        world.send(&build).await;
        if import < IMPORT {
            world.settings.limits.import = import;
            world.start_ready().await;
            world.failed_once(&build).await;
            world.stop().await;
        }
        world.settings.limits.import = IMPORT;
        world.start_ready().await;
        let applied = world.next_update().await;
        assert_eq!(applied.request, build.request);
        let BuildUpdate::Pushed(pushed) = applied.update else {
            panic!("{behaviour}: {:?}", applied.update)
        };
        let files = world
            .destination
            .log(&format!("{}~1", pushed.revision), "{files}");
        assert_eq!(files, "new.txt", "{behaviour}: the patch arrived");
        assert!(!note.exists(), "{behaviour}: was not seen");
        // A Mercurial that works is kept; the next one is to be mad again.
        world.stop().await;
    }
    assert!(
        peak_megabytes() < 100,
        "the worker took {} MB",
        peak_megabytes()
    );
}

/// The most memory that this process ever had. Only in a process of its own does that say something of one test.
fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn server_that_breaks_the_protocol_is_killed_and_the_build_retried() {
    if !is_alone("server_that_breaks_the_protocol_is_killed_and_the_build_retried") {
        return;
    }
    let behaviours = [
        "garbage",
        "half a frame",
        "a huge frame of output",
        "a huge frame of errors",
        "an unknown channel",
        "a long result",
        "a result that is not true",
        "output without end",
        "death",
        "a closed output",
        "noise",
    ];
    outlives(IMPORT, &behaviours).await;
}

#[tokio::test]
async fn command_past_its_deadline_is_killed_and_the_build_retried() {
    if !is_alone("command_past_its_deadline_is_killed_and_the_build_retried") {
        return;
    }
    let behaviours = [
        "half a frame, then silence",
        "a huge frame to be ignored",
        "errors without end",
        "empty frames without end",
        "silence",
        "silence that minds no signal",
        "questions without end",
        "questions for nothing",
        "a question for everything",
    ];
    outlives(ENDLESS, &behaviours).await;
}

#[tokio::test]
async fn build_that_always_meets_madness_ends_as_our_fault_and_the_next_one_works() {
    let (mut world, note) = mad_world();
    fs::write(&note, "garbage always").unwrap();
    world.start();
    let update = world.build(&world.simple_build(1)).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(
        failure
            .details
            .contains("the hg command server failed during `hg import`"),
        "{}",
        failure.details
    );
    fs::remove_file(&note).unwrap();
    world.pushed(&world.simple_build(2)).await;
    world.stop().await;
}
