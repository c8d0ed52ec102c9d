//! `git daemon`.

use std::process::{Child, Command};

use testkit::Port;

use super::assert_barred;
use crate::world::{World, until};

/// A `git daemon` for the repositories of a world.
struct Daemon {
    port: Port,
    child: Child,
}

impl Daemon {
    async fn start(world: &World, options: &[&str]) -> Self {
        let port = Port::claim().unwrap();
        let child = Command::new("git")
            .args([
                "daemon",
                "--listen=127.0.0.1",
                "--export-all",
                "--reuseaddr",
            ])
            .arg(format!("--port={}", port.number()))
            .arg(format!("--base-path={}", world.home.path().display()))
            .args(options)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .spawn()
            .unwrap();
        let number = port.number();
        until("the daemon", || {
            std::net::TcpStream::connect(("127.0.0.1", number)).is_ok()
        })
        .await;
        Self { port, child }
    }

    fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port.number())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends its own children.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn build_is_pushed() {
    let mut world = World::new();
    let daemon = Daemon::start(&world, &["--enable=receive-pack"]).await;
    world.repository().try_url = daemon.url("destination");
    world.start_ready().await;
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn service_that_is_not_enabled_and_missing_repository_are_for_operators() {
    let mut world = World::new();
    let daemon = Daemon::start(&world, &["--informative-errors"]).await;
    world.repository().try_url = daemon.url("destination");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "try takes no pushes from us.",
        "service not enabled",
    );
    world.stop().await;
    world.repository().try_url = daemon.url("nowhere");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The address that we have for try leads to no repository.",
        "no such repository",
    );
    world.stop().await;
}
