//! Every way a push can end, provoked with real servers: the outcome of the build, and what its author reads.

mod broken;
mod forbidden;
mod listener;
mod locked;
mod refused;
mod unreachable;

use testkit::{HgWeb, Sshd};

use crate::world::World;

#[tokio::test]
async fn build_is_pushed_over_http() {
    let (mut world, _web) = over_http().await;
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert_eq!(world.destination.tip(), pushed.revision);
    world.stop().await;
}

/// A world whose Try is behind ssh.
pub async fn over_ssh() -> (World, Sshd) {
    let mut world = World::new();
    let sshd = Sshd::start(world.path("ssh")).await.unwrap();
    world.settings.known_hosts = Some(sshd.known_hosts());
    let url = sshd.url(&world.destination.path);
    let repository = world.repository();
    repository.try_url = url;
    repository.ssh_user = Some(sshd.user().to_owned());
    repository.ssh_key = Some(sshd.private_key().unwrap().into());
    (world, sshd)
}

/// A world whose Try is behind a web server.
async fn over_http() -> (World, HgWeb) {
    let mut world = World::new();
    let web = HgWeb::start(&world.destination.path, world.path("web"))
        .await
        .unwrap();
    world.repository().try_url = web.url();
    (world, web)
}

impl World {
    /// The build lands, as one head and with one answer, whatever came of it before.
    async fn lands(&self, number: u64) {
        let build = self.simple_build(number);
        self.die_before_the_end_is_recorded(&build).await;
        let pushed = self.pushed(&build).await;
        self.has_landed(&pushed.revision);
    }

    /// Try has this head, and no other.
    fn has_landed(&self, revision: &str) {
        assert_eq!(self.destination.tip(), revision);
        assert_eq!(self.destination.heads(), 1);
        let count = self.destination.log("all()", "x").len();
        assert_eq!(count, 3, "the beginning, the patch, the config");
    }

    /// Try has what it had at the beginning.
    pub fn nothing_has_landed(&self) {
        assert_eq!(self.destination.tip(), self.source.tip());
    }

    /// Stops the worker, and starts it with other settings.
    async fn restart_with(&mut self, change: impl FnOnce(&mut Self)) {
        self.stop().await;
        change(self);
        self.start();
    }
}
