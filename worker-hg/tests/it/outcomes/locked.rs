//! Somebody else writes to Try.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    outcomes::{over_http, over_ssh},
    world::{Repo, World, until},
};

#[tokio::test]
async fn over_ssh_a_lock_is_waited_for_and_named() {
    let (mut world, _sshd) = over_ssh().await;
    let answer = locked_then_free(&mut world).await;
    let expected = "3: cannot push to try: remote: waiting for lock on repository HOME/destination held by process 'PID' on host \
                    'HOST'; remote: abort: repository HOME/destination: timed out waiting for lock held by 'HOST:PID'; \
                    abort: stream ended unexpectedly (got 0 bytes, expected 4)";
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn over_http_a_lock_is_waited_for() {
    let (mut world, _web) = over_http().await;
    let answer = locked_then_free(&mut world).await;
    assert_eq!(
        answer,
        "3: cannot push to try: abort: HTTP Error 500: Internal Server Error"
    );
}

#[tokio::test]
async fn on_a_path_a_lock_is_waited_for_and_named() {
    let mut world = World::new();
    // Our own `hg` waits there, for the time that it always has; the deadline of the push comes first.
    world.settings.limits.transfer = Duration::from_millis(300);
    let answer = locked_then_free(&mut world).await;
    assert_eq!(answer, "3: `hg push` was killed after 0 s without an end");
}

async fn locked_then_free(world: &mut World) -> String {
    world.destination.configure("[ui]\ntimeout = 1\n");
    let lock = Lock::take(&world.destination).await;
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    world.nothing_has_landed();
    let answer = lock.unnamed(&answer);
    drop(lock);
    world.settings.limits.transfer = Duration::from_secs(60);
    world.restart_with(|_| {}).await;
    world.lands(7).await;
    world.stop().await;
    answer
}

/// An `hg` that holds the lock of a repository, and does nothing with it.
struct Lock {
    child: Child,
    /// `host:process`, as Mercurial writes it.
    holder: String,
}

impl Lock {
    async fn take(repository: &Repo) -> Self {
        let child = Command::new("hg")
            .args(["--config=ui.interactive=true", "debuglocks", "--set-lock"])
            .current_dir(&repository.path)
            .env("HGRCPATH", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lock = repository.path.join(".hg/store/lock");
        until("the lock", || lock.is_symlink()).await;
        let holder = std::fs::read_link(lock)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        Self { child, holder }
    }

    fn unnamed(&self, answer: &str) -> String {
        let (host, process) = self.holder.rsplit_once(':').unwrap();
        let short = host.split('/').next().unwrap();
        answer
            .replace(host, "HOST")
            .replace(&format!("'{short}'"), "'HOST'")
            .replace(process, "PID")
    }
}

impl Drop for Lock {
    /// It ends, and takes its lock away, when nobody can answer it any more.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}
