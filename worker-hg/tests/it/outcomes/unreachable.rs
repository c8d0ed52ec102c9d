//! Nobody is there at the moment, or they say nothing.

use std::time::Duration;

use crate::{
    outcomes::{listener::Listener, over_http, over_ssh},
    world::World,
};

const RETRIED: &str = "3: cannot push to try: ";

#[tokio::test]
async fn web_server_that_is_down_is_tried_again() {
    let (mut world, mut web) = over_http().await;
    world.start();
    web.stop().await.unwrap();
    assert_eq!(
        world.failed(&world.simple_build(7)).await,
        format!("{RETRIED}abort: error: Connection refused")
    );
    web.restart().await.unwrap();
    world.lands(7).await;
    world.stop().await;
}

#[tokio::test]
async fn web_server_that_is_overloaded_is_tried_again() {
    let (mut world, _web) = over_http().await;
    let busy =
        Listener::answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    world.repository().try_url = format!("http://127.0.0.1:{}/try", busy.port());
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    assert_eq!(
        answer,
        format!("{RETRIED}abort: HTTP Error 503: Service Unavailable")
    );
    world.stop().await;
}

#[tokio::test]
async fn name_that_does_not_resolve_is_tried_again() {
    let (mut world, _sshd) = over_ssh().await;
    world.repository().try_url = "ssh://nowhere.invalid//try".to_owned();
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    // The resolver words the rest.
    let unresolved = format!("{RETRIED}remote: ssh: Could not resolve hostname nowhere.invalid: ");
    assert!(answer.starts_with(&unresolved), "{answer}");

    world
        .restart_with(|world| world.repository().try_url = "http://nowhere.invalid/try".to_owned())
        .await;
    let answer = world.failed(&world.simple_build(7)).await;
    assert!(
        answer.starts_with(&format!("{RETRIED}abort: error: ")),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test]
async fn server_that_hangs_up_at_once_is_tried_again() {
    let (mut world, _sshd) = over_ssh().await;
    let rude = Listener::hanging_up().await;
    world.repository().try_url = format!("http://127.0.0.1:{}/try", rude.port());
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    assert!(answer.starts_with(&format!("{RETRIED}abort: ")), "{answer}");

    world
        .restart_with(|world| {
            world.repository().try_url = format!("ssh://127.0.0.1:{}//try", rude.port())
        })
        .await;
    let answer = world.failed(&world.simple_build(7)).await;
    assert!(
        answer.starts_with(&format!("{RETRIED}remote: ")),
        "{answer}"
    );
    assert!(
        answer.ends_with("; abort: no suitable response from remote hg"),
        "{answer}"
    );
    world.stop().await;
}

#[tokio::test]
async fn web_server_that_says_nothing_is_given_up_at_the_deadline() {
    let mut world = World::new();
    world.settings.limits.transfer = Duration::from_millis(300);
    let silent = Listener::silent().await;
    world.repository().try_url = format!("http://127.0.0.1:{}/try", silent.port());
    world.start();
    let answer = world.failed(&world.simple_build(7)).await;
    assert_eq!(answer, "3: `hg push` was killed after 0 s without an end");
    world.stop().await;
}
