//! sshd, with `git shell` as the only command.

use std::fs;

use testkit::Sshd;

use super::assert_barred;
use crate::world::World;

/// A world whose destination is behind ssh. The server only runs `git shell`.
pub async fn over_ssh() -> (World, Sshd) {
    let mut world = World::new();
    let sshd = Sshd::start(world.path("ssh")).await.unwrap();
    restrict(&world, "git shell -c \\\"$SSH_ORIGINAL_COMMAND\\\"");
    let url = sshd.url(&world.destination.path);
    use_server(&mut world, &sshd, url);
    (world, sshd)
}

/// Has sessions run this command alone.
pub fn restrict(world: &World, command: &str) {
    let key = fs::read_to_string(world.path("ssh/client_key.pub")).unwrap();
    fs::write(
        world.path("ssh/authorized_keys"),
        format!("command=\"{command}\",restrict {key}"),
    )
    .unwrap();
}

/// Has the worker push to this address.
pub fn use_server(world: &mut World, sshd: &Sshd, url: String) {
    world.settings.known_hosts = Some(sshd.known_hosts());
    let repository = world.repository();
    repository.try_url = url;
    repository.ssh_user = Some(sshd.user().to_owned());
    repository.ssh_key = Some(sshd.private_key().unwrap().into());
}

#[tokio::test]
async fn build_is_pushed_and_words_of_hooks_are_received() {
    let (mut world, _sshd) = over_ssh().await;
    world.start_ready().await;
    world
        .destination
        .hook("pre-receive", "echo CLOSED TREE; exit 1");
    let words = world.fails(3).await;
    assert_eq!(
        words,
        "push to try was refused by a hook there: remote: CLOSED TREE; pre-receive hook declined"
    );
    world.destination.unhook();
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn key_that_is_not_accepted_is_for_operators() {
    let (mut world, sshd) = over_ssh().await;
    world.repository().ssh_key = Some(sshd.wrong_key().unwrap().into());
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "Our credentials were not accepted by try.",
        "Permission denied (publickey)",
    );
    world.stop().await;
}

#[tokio::test]
async fn unknown_and_other_host_keys_are_for_operators() {
    let (mut world, mut sshd) = over_ssh().await;
    fs::write(world.path("none"), "").unwrap();
    world.settings.known_hosts = Some(world.path("none"));
    world.start_ready().await;
    let host = format!("[127.0.0.1]:{}", sshd.port());
    assert_barred(
        world.is_barred().await,
        "No host key of try is known here.",
        "no host key is known for [127.0.0.1]:PORT",
    );
    world.stop().await;
    world.settings.known_hosts = Some(sshd.known_hosts());
    sshd.change_host_key().await.unwrap();
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The host key of try is not the one that we know.",
        "[127.0.0.1]:PORT has another host key",
    );
    assert!(host.contains("127.0.0.1"));
    world.stop().await;
}

#[tokio::test]
async fn missing_repository_and_missing_program_are_for_operators() {
    let (mut world, sshd) = over_ssh().await;
    let nowhere = sshd.url(&world.path("nowhere"));
    world.repository().try_url = nowhere;
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The address that we have for try leads to no repository.",
        "does not appear to be a git repository",
    );
    world.stop().await;
    let there = sshd.url(&world.destination.path);
    world.repository().try_url = there;
    restrict(&world, "PATH=/nonexistent; git-receive-pack x");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "There is no Git on the server of try.",
        "git-receive-pack: ",
    );
    world.stop().await;
}

#[tokio::test]
async fn connection_that_breaks_off_is_tried_again() {
    let (mut world, mut sshd) = over_ssh().await;
    world.start_ready().await;
    // The session of the push ends in the middle of it.
    let counter = world.path("cut");
    let script = format!(
        "test -e {0} && exit 0; touch {0}; process=$PPID\n\
         until grep -q sshd /proc/$process/comm; do process=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$process/status); done\n\
         kill -9 $process; exit 1",
        counter.display()
    );
    world.destination.hook("pre-receive", &script);
    world.lands(&world.destination).await;
    assert!(counter.exists());
    world.destination.git(&["update-ref", "-d", super::REF]);
    sshd.stop().await.unwrap();
    let words = world.fails(3).await;
    assert!(words.contains("Connection refused"), "{words}");
    sshd.restart().await.unwrap();
    world.lands(&world.destination).await;
    world.stop().await;
}
