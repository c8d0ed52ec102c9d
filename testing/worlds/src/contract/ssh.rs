//! Pushes over ssh, and what can be in their way.

use std::{fs, net::TcpListener, time::Duration};

use build::BuildUpdate;
use testkit::Sshd;

use crate::{Moment, Repository, Side, World, until};

/// A world whose destination is behind ssh.
async fn over_ssh<S: Side>() -> (World<S>, Sshd) {
    let mut world = World::<S>::new();
    let sshd = Sshd::start(world.path("ssh")).await.unwrap();
    world.settings.known_hosts = Some(sshd.known_hosts());
    let url = sshd.url(world.destination.path());
    let repository = world.repository();
    repository.try_url = url;
    repository.ssh_user = Some(sshd.user().to_owned());
    repository.ssh_key = Some(sshd.private_key().unwrap().into());
    (world, sshd)
}

/// The build of D7 must fail by our fault, after this number of attempts, with this summary for its author and these words for
/// operators.
async fn fails<S: Side>(world: &World<S>, attempts: u32, summary: &str, words: &str) {
    let build = world.simple_build(7);
    let failed = world.failed(&build).await;
    assert!(failed.starts_with(&format!("{attempts}: ")), "{failed}");
    assert!(failed.contains(words), "{failed}");
    let record = format!("{:?}", world.record(&build).await);
    assert!(record.contains(summary), "{record}");
    world.nothing_was_pushed();
}

/// The build of D7 must be pushed, as one head, whatever came of it before.
async fn lands<S: Side>(world: &World<S>) {
    let build = world.simple_build(7);
    world.die_before_the_end_is_recorded(&build).await;
    let pushed = world.pushed(&build).await;
    assert_eq!(world.destination.pushed(), [pushed.revision]);
}

pub async fn build_is_pushed_and_words_of_hooks_are_received<S: Side>() {
    let (mut world, _sshd) = over_ssh::<S>().await;
    world
        .destination
        .hook(Moment::BeforePush, "echo CLOSED TREE; exit 1");
    world.start();
    let summary = "The push to try was refused by a hook there.";
    fails(&world, 3, summary, "remote: CLOSED TREE").await;
    world.destination.unhook();
    lands(&world).await;
    world.stop().await;
}

pub async fn key_that_is_not_accepted_is_for_operators<S: Side>() {
    let (mut world, sshd) = over_ssh::<S>().await;
    world.repository().ssh_key = Some(sshd.wrong_key().unwrap().into());
    world.start();
    let summary = "Our credentials were not accepted by try.";
    fails(&world, 1, summary, "Permission denied (publickey)").await;
    world.stop().await;
    world.repository().ssh_key = Some("no key at all".into());
    world.start();
    fails(&world, 1, summary, "Load key ").await;
    world.stop().await;
    world.repository().ssh_key = Some(sshd.private_key().unwrap().into());
    world.start();
    lands(&world).await;
    world.stop().await;
}

pub async fn unknown_and_other_host_keys_are_for_operators<S: Side>() {
    let (mut world, mut sshd) = over_ssh::<S>().await;
    fs::write(world.path("none"), "").unwrap();
    world.settings.known_hosts = Some(world.path("none"));
    world.start();
    let remedy = "no host key is known for [127.0.0.1]:PORT: add its line to `known_hosts`";
    fails(&world, 1, "No host key of try is known here.", remedy).await;
    world.stop().await;
    world.settings.known_hosts = Some(sshd.known_hosts());
    sshd.change_host_key().await.unwrap();
    world.start();
    let summary = "The host key of try is not the one that we know.";
    let remedy =
        "[127.0.0.1]:PORT has another host key than the one in `known_hosts`: ask its operators";
    fails(&world, 1, summary, remedy).await;
    world.stop().await;
}

pub async fn server_that_is_down_is_tried_again<S: Side>() {
    let (mut world, mut sshd) = over_ssh::<S>().await;
    world.start();
    sshd.stop().await.unwrap();
    let summary = "The connection to try could not be made";
    fails(&world, 3, summary, "Connection refused").await;
    sshd.restart().await.unwrap();
    lands(&world).await;
    world.stop().await;
}

pub async fn server_that_says_nothing_is_given_up_at_the_deadline<S: Side>() {
    let (mut world, _sshd) = over_ssh::<S>().await;
    world.start_ready().await;
    world.stop().await;
    // It accepts connections, and nobody reads from them.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    world.repository().try_url = format!("ssh://127.0.0.1:{port}//try");
    world.settings.limits.transfer = Duration::from_millis(300);
    world.start();
    let words = " push` was killed after 0 s without an end";
    fails(&world, 3, "The push to try did not end in time", words).await;
    world.stop().await;
}

pub async fn sessions_that_are_cut_within_a_push_make_one_head_and_one_answer<S: Side>() {
    let (mut world, sshd) = over_ssh::<S>().await;
    let (held, go) = (world.path("held"), world.path("go"));
    let hook = format!(
        "test -e {0} || {{ touch {0}; until test -e {1}; do sleep 0.02; done; }}",
        held.display(),
        go.display()
    );
    world.destination.hook(Moment::BeforePush, &hook);
    world.start();
    world.send(&world.simple_build(7)).await;
    let breaking = async {
        until("the push", || held.exists()).await;
        sshd.cut_sessions().await.unwrap();
        fs::write(&go, "").unwrap();
    };
    let (applied, ()) = tokio::join!(world.next_update(), breaking);
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(world.destination.pushed(), [pushed.revision]);
    assert!(world.update().await.is_none(), "a second answer");
    world.stop().await;
}
