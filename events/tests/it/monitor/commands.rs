//! Commands that hang.

use super::*;

pub(super) async fn hanging_commands_delay_nothing_else(world: &World) {
    let (started, open, ran) = (world.path("started"), world.path("open"), world.path("ran"));
    let command = format!(
        "echo >> {}; while [ ! -e {} ]; do sleep 0.1; done; cat >> {}",
        started.display(),
        open.display(),
        ran.display()
    );
    let mut process = world
        .monitor("held", &["--tree", "*", "--serve", "0", "--exec", &command])
        .await;
    for number in 0..40 {
        world
            .publish_build(&format!("tree{number}"), "win32", json!({}))
            .await;
    }
    until("all lines", &process, || {
        world.read("held").lines().count() == 40
    })
    .await;
    until("some commands", &process, || {
        world.read("started").lines().count() >= 16
    })
    .await;
    assert_eq!(trees(&served(&process, "/builds.json").await), 40);
    assert_eq!(
        world.read("started").lines().count(),
        16,
        "no more run at once"
    );
    fs::write(open, "").unwrap();
    until("all commands", &process, || {
        world.read("ran").lines().count() == 40
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn hanging_command_is_killed_with_monitor() {
    let world = World::new().await;
    let command = format!(
        "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
        world.path("pid").display()
    );
    let mut process = world.monitor("hangs", &["--exec", &command]).await;
    world.publish_test("unittest", "reftest").await;
    until("the command to run", &process, || {
        world.path("pid").exists()
    })
    .await;
    // The second signal ends the grace period.
    process.signal(Signal::SIGTERM);
    process.until_logged("shutting down").await;
    process.signal(Signal::SIGTERM);
    assert!(process.ended().await.success(), "{}", process.log());
    let child = world.read("pid");
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        !(stat.is_empty() || stat.contains(") Z "))
    };
    until("the command's processes to end", &process, || !alive()).await;
}
