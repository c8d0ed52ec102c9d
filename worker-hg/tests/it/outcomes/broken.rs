//! It breaks in the middle.

use std::{fs, process::Command, sync::atomic::Ordering};

use build::{Build, BuildUpdate};

use crate::{
    outcomes::{listener::Listener, over_http, over_ssh},
    world::{World, add, until},
};

#[tokio::test]
async fn remote_hg_that_is_ended_within_the_transaction_is_tried_again_and_lands() {
    let (mut world, _sshd) = over_ssh().await;
    let died = world.path("died");
    // Three pushes: the two of the first attempt, and one of the second.
    let hook = format!(
        "echo >> {0}; test $(wc -l < {0}) -gt 3 || kill $PPID",
        died.display()
    );
    world
        .destination
        .configure(&format!("[hooks]\npretxnchangegroup.die = {hook}\n"));
    world.start();
    world.lands(7).await;
    assert_eq!(fs::read_to_string(&died).unwrap().lines().count(), 4);
    world.stop().await;
}

#[tokio::test]
async fn abandoned_transaction_on_try_is_named_and_the_build_is_pushed_after_recovery() {
    let (mut world, _sshd) = over_ssh().await;
    let died = world.path("died");
    let hook = format!(
        "test -e {0} || {{ touch {0}; kill -9 $PPID; }}",
        died.display()
    );
    world
        .destination
        .configure(&format!("[hooks]\npretxnchangegroup.die = {hook}\n"));
    world.start();
    let expected = "3: cannot push to try: remote: abort: abandoned transaction found; \
                    remote: (run 'hg recover' to clean up transaction); \
                    abort: stream ended unexpectedly (got 0 bytes, expected 4)";
    assert_eq!(world.failed(&world.simple_build(7)).await, expected);
    world.destination.hg(&["recover"]);
    world.lands(7).await;
    world.stop().await;
}

#[tokio::test]
async fn web_server_that_dies_within_the_transaction_is_tried_again() {
    let (mut world, mut web) = over_http().await;
    let died = world.path("died");
    let hook = format!(
        "test -e {0} || {{ touch {0}; kill -9 $PPID; }}",
        died.display()
    );
    world
        .destination
        .configure(&format!("[hooks]\npretxnchangegroup.die = {hook}\n"));
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    assert_eq!(
        answer,
        "3: cannot push to try: abort: error: Connection refused"
    );
    assert!(died.exists());
    // Until it is reaped, it is as good as alive for the lock that it left.
    web.stop().await.unwrap();
    world.destination.hg(&["recover"]);
    web.restart().await.unwrap();
    world.lands(7).await;
    world.stop().await;
}

#[tokio::test]
async fn push_over_ssh_that_landed_without_a_response_is_a_success() {
    for hook in ["changegroup", "txnclose"] {
        let (mut world, _sshd) = over_ssh().await;
        let died = world.path("died");
        let hook = format!("{hook}.die = echo >> {}; kill -9 $PPID", died.display());
        world.destination.configure(&format!("[hooks]\n{hook}\n"));
        world.start();
        world.lands(7).await;
        assert_eq!(
            fs::read_to_string(&died).unwrap().lines().count(),
            1,
            "{hook}"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn push_over_http_that_landed_without_a_response_is_a_success() {
    let (mut world, mut web) = over_http().await;
    world
        .destination
        .configure("[hooks]\nchangegroup.die = kill -9 $PPID\n");
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    assert_eq!(
        answer,
        "3: cannot push to try: abort: error: Connection refused"
    );
    web.restart().await.unwrap();
    // The hook would kill the server again, if there was anything to push.
    world.lands(7).await;
    world.stop().await;
}

#[tokio::test]
async fn connection_that_breaks_while_the_remote_receives_is_tried_again_and_lands() {
    let (mut world, sshd) = over_ssh().await;
    // One attempt's two pushes and one more, each cut in the middle of the changesets.
    let (cutting, cuts) = Listener::cutting(sshd.port(), 3, 300_000).await;
    let known = fs::read_to_string(sshd.known_hosts()).unwrap();
    let known = known.replace(&sshd.port().to_string(), &cutting.port().to_string());
    fs::write(sshd.known_hosts(), known).unwrap();
    let url = sshd
        .url(&world.destination.path)
        .replace(&sshd.port().to_string(), &cutting.port().to_string());
    world.repository().try_url = url;
    world.start();
    let pushed = world.pushed(&large_build(&world)).await;
    world.has_landed(&pushed.revision);
    assert_eq!(cuts.load(Ordering::SeqCst), 3);
    world.stop().await;
}

#[tokio::test]
async fn web_connection_that_breaks_while_the_remote_receives_is_tried_again_and_lands() {
    let (mut world, web) = over_http().await;
    let port = web
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let (cutting, cuts) = Listener::cutting(port.parse().unwrap(), 3, 300_000).await;
    world.repository().try_url = web.url().replace(&port, &cutting.port().to_string());
    world.start();
    let pushed = world.pushed(&large_build(&world)).await;
    world.has_landed(&pushed.revision);
    assert_eq!(cuts.load(Ordering::SeqCst), 3);
    world.stop().await;
}

#[tokio::test]
async fn our_ssh_that_is_killed_in_the_middle_makes_one_head_and_one_answer() {
    let (mut world, sshd) = over_ssh().await;
    let (held, go) = hold_the_transaction(&world);
    world.start();
    world.send(&world.simple_build(7)).await;
    let breaking = async {
        until("the transaction", || held.exists()).await;
        // By their port, and by the directory of the sockets of those that are kept.
        let ours = [
            sshd.port().to_string(),
            world.settings.clones_dir.display().to_string(),
        ];
        let processes = Command::new("ps")
            .args(["-eo", "pid=,comm=,args="])
            .output()
            .unwrap()
            .stdout;
        let processes = String::from_utf8(processes).unwrap();
        let mut killed = 0;
        for line in processes.lines() {
            let mut fields = line.split_whitespace();
            let (pid, name) = (fields.next().unwrap(), fields.next().unwrap());
            if name == "ssh" && ours.iter().any(|mark| line.contains(mark)) {
                Command::new("kill").args(["-9", pid]).status().unwrap();
                killed += 1;
            }
        }
        assert!(killed > 0, "{processes}");
        fs::write(&go, "").unwrap();
    };
    let (applied, ()) = tokio::join!(world.next_update(), breaking);
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    world.has_landed(&pushed.revision);
    world.stop().await;
}

/// Has Try hold its first transaction from the moment that the first file is there, until the second one is.
fn hold_the_transaction(world: &World) -> (std::path::PathBuf, std::path::PathBuf) {
    let (held, go) = (world.path("held"), world.path("go"));
    let hook = format!(
        "test -e {0} || {{ touch {0}; until test -e {1}; do sleep 0.02; done; }}",
        held.display(),
        go.display()
    );
    world
        .destination
        .configure(&format!("[hooks]\npretxnchangegroup.hold = {hook}\n"));
    (held, go)
}

/// A build that takes more than a moment to send, because it cannot be compressed.
fn large_build(world: &World) -> Build {
    let mut state = 1_u64;
    let mut line = String::new();
    while line.len() < 2_000_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        line.push_str(&format!("{:016x}", state));
    }
    world.build_of(vec![world.patch(7, add("large.txt", &line))])
}
