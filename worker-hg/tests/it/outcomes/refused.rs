//! A hook of Try refuses.

use crate::{
    outcomes::{over_http, over_ssh},
    world::World,
};

/// Prints to both streams, and refuses. The second line is what an author would write to imitate Mercurial.
const HOOK: &str = "[hooks]\npretxnchangegroup.tree = echo CLOSED TREE; echo 'abort: authorization failed' >&2; exit 1\n";

const REFUSED: &str = "3: push to try was refused by a hook there: remote: CLOSED TREE; \
                       remote: abort: authorization failed; \
                       remote: pretxnchangegroup.tree hook exited with status 1; abort: push failed on remote";

#[tokio::test]
async fn over_ssh_it_is_tried_again_and_its_text_is_shown() {
    let (mut world, _sshd) = over_ssh().await;
    refuses_then_lets_in(&mut world, REFUSED).await;
}

#[tokio::test]
async fn over_http_it_is_tried_again_and_its_text_is_shown() {
    let (mut world, _web) = over_http().await;
    refuses_then_lets_in(&mut world, REFUSED).await;
}

async fn refuses_then_lets_in(world: &mut World, expected: &str) {
    let configuration = world.destination.path.join(".hg/hgrc");
    let without_hook = std::fs::read(&configuration).unwrap();
    world.destination.configure(HOOK);
    world.start();
    assert_eq!(world.failed(&world.simple_build(7)).await, expected);
    world.nothing_has_landed();
    std::fs::write(&configuration, without_hook).unwrap();
    world.lands(7).await;
    world.stop().await;
}
