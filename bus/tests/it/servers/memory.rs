//! A server whose memory is full.

use std::time::Duration;

use bus::{Bus, BusError, Outgoing, QueueAdmin, Settlement};
use tempfile::TempDir;
use testkit::RedisServer;

use super::{connect, passing, reserve};
use crate::world::{NOTES, OUT, PARTITIONED, done, packed, text};

#[tokio::test]
async fn full_redis_refuses_pushes_whole_and_its_messages_are_handled() {
    let directory = TempDir::new().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let bus = connect(&server.options());
    let soon = Duration::from_millis(1);
    bus.push(vec![
        packed(&NOTES, "a"),
        packed(&NOTES, "b"),
        packed(&NOTES, "c"),
        packed(&NOTES, "d"),
        packed(&PARTITIONED, "a"),
        Outgoing {
            after: soon,
            ..packed(&PARTITIONED, "late")
        },
        Outgoing {
            after: soon,
            ..packed(&NOTES, "late")
        },
    ])
    .await
    .unwrap();
    let first = reserve(&bus, &NOTES).await;
    let () = server
        .command(&["CONFIG", "SET", "maxmemory", "1mb"])
        .await
        .unwrap();

    // One message, and several with a key: by a command and by a script.
    let alone = bus.push(vec![packed(&OUT, "x")]).await;
    assert!(matches!(alone, Err(BusError::Memory { .. })), "{alone:?}");
    assert!(passing(alone).contains("maxmemory"));
    let keyed = |text: &str| Outgoing {
        key: Some(text.to_owned()),
        ..packed(&OUT, text)
    };
    let several = bus
        .push(vec![
            keyed("y"),
            packed(&PARTITIONED, "z"),
            packed(&OUT, "w"),
        ])
        .await;
    assert!(
        matches!(several, Err(BusError::Memory { .. })),
        "{several:?}"
    );
    assert_eq!(bus.depth(&OUT.spec()).await.unwrap().ready, 0);

    // What is there goes its way all the same, outputs included.
    bus.settle(
        &first.lease,
        &Settlement::Done {
            emit: vec![packed(&OUT, "of a"), packed(&PARTITIONED, "of a")],
        },
    )
    .await
    .unwrap();
    let retried = reserve(&bus, &NOTES).await;
    bus.settle(&retried.lease, &Settlement::Retry { after: soon })
        .await
        .unwrap();
    let dead = reserve(&bus, &NOTES).await;
    let id = dead.envelope.id;
    let letter = Settlement::Dead {
        id,
        reason: "no good".to_owned(),
        attempts: 1,
        emit: vec![packed(&OUT, "dead")],
    };
    bus.settle(&dead.lease, &letter).await.unwrap();
    let mut handled = Vec::new();
    while handled.len() < 8 {
        for queue in [NOTES, OUT, PARTITIONED] {
            for delivery in bus
                .reserve(&queue.spec(), bus::Reserve::now(10))
                .await
                .unwrap()
            {
                handled.push(format!("{} {}", queue.spec().name, text(&delivery)));
                bus.settle(&delivery.lease, &done()).await.unwrap();
            }
        }
    }
    handled.sort_unstable();
    let expected = [
        "notes b",
        "notes d",
        "notes late",
        "out dead",
        "out of a",
        "partitioned a",
        "partitioned late",
        "partitioned of a",
    ];
    assert_eq!(handled, expected);
    assert_eq!(bus.depth(&NOTES.spec()).await.unwrap().dead, 1);

    // Nothing is left of what was refused: its key is free.
    let () = server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    assert_eq!(bus.push(vec![keyed("y")]).await.unwrap().inserted, 1);
}
