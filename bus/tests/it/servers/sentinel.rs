//! A master that Sentinels replace.

use std::time::Duration;

use bus::{Bus, Reserve, Settlement};
use tempfile::TempDir;
use testkit::RedisSentinels;

use super::{connect, passing, persist, reserve, unfit::refusal, wait_begins};
use crate::world::{NOTES, OUT, packed, text};

/// Waits until the replica has what the master has: what it does not have, a fail-over loses.
async fn is_copied(sentinels: &mut RedisSentinels) {
    let master = sentinels.master().await.unwrap();
    // WAIT asks for the writes of its own connection only.
    loop {
        let info: String = master.command(&["INFO", "replication"]).await.unwrap();
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .to_owned()
        };
        let (own, copy) = (field("master_repl_offset:"), field("slave0:"));
        if copy.contains(&format!(",offset={own},")) {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn dead_master_is_replaced_and_messages_in_flight_are_kept() {
    let directory = TempDir::new().unwrap();
    let mut sentinels = RedisSentinels::start(directory.path()).await.unwrap();
    let bus = connect(&sentinels.options());
    bus.push(vec![packed(&NOTES, "held"), packed(&NOTES, "ready")])
        .await
        .unwrap();
    let held = reserve(&bus, &NOTES).await;
    // Somebody waits when it happens.
    let waiting = tokio::spawn({
        let bus = bus.clone();
        let request = Reserve {
            wait: Duration::from_secs(3600),
            ..Reserve::now(1)
        };
        async move { bus.reserve(&OUT.spec(), request).await }
    });
    wait_begins(sentinels.master().await.unwrap()).await;
    // The replica knows of a command that was sent after all that counts.
    bus.extend(&held.lease).await.unwrap();
    is_copied(&mut sentinels).await;

    let before = sentinels.address().await.unwrap();
    sentinels.master().await.unwrap().stop().unwrap();
    passing(waiting.await.unwrap());
    passing(bus.push(vec![packed(&NOTES, "while none is there")]).await);
    sentinels.changed(before).await.unwrap();

    persist("a settlement", || async {
        bus.settle(
            &held.lease,
            &Settlement::Done {
                emit: vec![packed(&OUT, "of held")],
            },
        )
        .await
    })
    .await;
    assert_eq!(text(&reserve(&bus, &NOTES).await), "ready");
    assert_eq!(text(&reserve(&bus, &OUT).await), "of held");
    assert!(
        bus.reserve(&NOTES.spec(), Reserve::now(10))
            .await
            .unwrap()
            .is_empty(),
        "nothing was done twice"
    );
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn master_that_becomes_a_replica_is_left() {
    let directory = TempDir::new().unwrap();
    let mut sentinels = RedisSentinels::start(directory.path()).await.unwrap();
    let bus = connect(&sentinels.options());
    bus.push(vec![packed(&NOTES, "a"), packed(&NOTES, "b")])
        .await
        .unwrap();
    is_copied(&mut sentinels).await;
    sentinels.fail_over().await.unwrap();
    let a = persist("a reservation", || async {
        bus.reserve(&NOTES.spec(), Reserve::now(1)).await
    })
    .await
    .pop()
    .unwrap();
    persist("a settlement", || async {
        bus.settle(&a.lease, &Settlement::Done { emit: Vec::new() })
            .await
    })
    .await;
    assert_eq!(text(&reserve(&bus, &NOTES).await), "b");
}

#[tokio::test]
#[ignore = "slow: ./dev test --all"]
async fn sentinel_and_its_master_are_distinguished() {
    let directory = TempDir::new().unwrap();
    let sentinels = RedisSentinels::start(directory.path()).await.unwrap();
    let mut options = sentinels.options();
    assert_eq!(
        connect(&options).check().await.unwrap(),
        Vec::<String>::new()
    );
    let refused = refusal(&sentinels.sentinel().options()).await;
    assert!(refused.contains("redis+sentinel://"), "{refused}");
    let master = sentinels.address().await.unwrap();
    options.url = format!("redis+sentinel://127.0.0.1:{master}/main").into();
    let refused = refusal(&options).await;
    assert!(refused.contains("it is not a sentinel"), "{refused}");
}
