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
