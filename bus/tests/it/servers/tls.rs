//! TLS: who the server is must be proved, and nothing goes out before.

use std::path::Path;

use bus::{Bus, RedisOptions, Settlement};
use tempfile::TempDir;
use testkit::{Authority, RedisServer};

use super::{
    connect, passing,
    relay::{Relay, listen},
    reserve,
};
use crate::world::{NOTES, OUT, packed, text};

const PASSWORD: &str = "hunter2";

fn authority(directory: &Path, name: &str) -> Authority {
    let directory = directory.join(name);
    std::fs::create_dir(&directory).unwrap();
    Authority::new(&directory).unwrap()
}

fn options(port: u16, ca: Option<&Authority>) -> RedisOptions {
    let url = format!("rediss://bus:{PASSWORD}@localhost:{port}").into();
    let ca = ca.map(|authority| authority.certificate().unwrap());
    RedisOptions {
        url,
        namespace: "test".to_owned(),
        ca,
        waiters: 2,
    }
}

async fn start(directory: &Path, authority: &Authority, name: &str) -> (RedisServer, u16) {
    let (server, port) = RedisServer::start_with_tls(directory.join("redis"), authority, name)
        .await
        .unwrap();
    let password = format!(">{PASSWORD}");
    let () = server
        .command(&[
            "ACL", "SETUSER", "bus", "on", &password, "~*", "&*", "+@all",
        ])
        .await
        .unwrap();
    (server, port)
}

fn assert_nothing_in_clear(relay: &Relay) {
    let received = relay.received.lock();
    assert_eq!(
        received.first(),
        Some(&0x16),
        "it begins with a handshake of TLS"
    );
    for word in [PASSWORD, "AUTH", "HELLO", "CLIENT", "PING"] {
        assert!(
            !received
                .windows(word.len())
                .any(|part| part.eq_ignore_ascii_case(word.as_bytes())),
            "{word}"
        );
    }
}

#[tokio::test]
async fn bus_works_over_tls_with_a_private_authority() {
    let directory = TempDir::new().unwrap();
    let ours = authority(directory.path(), "ours");
    let (_server, port) = start(directory.path(), &ours, "localhost").await;
    let relay = Relay::to(port).await;
    let bus = connect(&options(relay.port, Some(&ours)));
    assert_eq!(bus.check().await.unwrap(), Vec::<String>::new());

    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { reserve(&bus, &NOTES).await }
    });
    bus.push(vec![packed(&NOTES, "a")]).await.unwrap();
    let delivery = waiting.await.unwrap();
    assert_eq!(text(&delivery), "a");
    bus.settle(
        &delivery.lease,
        &Settlement::Done {
            emit: vec![packed(&OUT, "b")],
        },
    )
    .await
    .unwrap();
    assert_eq!(text(&reserve(&bus, &OUT).await), "b");
    assert_nothing_in_clear(&relay);
}

#[tokio::test]
async fn untrusted_certificate_is_refused_before_anything_is_sent() {
    let directory = TempDir::new().unwrap();
    let (ours, other) = (
        authority(directory.path(), "ours"),
        authority(directory.path(), "other"),
    );
    let (right, wrong) = (
        directory.path().join("right"),
        directory.path().join("wrong"),
    );
    let (_right, right) = start(&right, &ours, "localhost").await;
    let (_wrong, wrong) = start(&wrong, &ours, "redis.example.com").await;
    for (port, ca, reason) in [
        (right, None, "UnknownIssuer"),
        (right, Some(&other), "UnknownIssuer"),
        (wrong, Some(&ours), "not valid for name"),
    ] {
        let relay = Relay::to(port).await;
        let bus = connect(&options(relay.port, ca));
        let error = passing(bus.push(vec![packed(&NOTES, "a")]).await);
        assert!(
            error.contains("certificate") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains(PASSWORD), "{error}");
        assert_nothing_in_clear(&relay);
    }
}

#[tokio::test]
async fn connection_between_tls_and_plain_fails_with_an_error() {
    let directory = TempDir::new().unwrap();
    let ours = authority(directory.path(), "ours");
    let (server, tls) = start(directory.path(), &ours, "localhost").await;
    let plain = listen(&server).await;

    let relay = Relay::to(plain.number()).await;
    passing(connect(&options(relay.port, Some(&ours))).ping().await);
    assert_nothing_in_clear(&relay);

    let url = format!("redis://localhost:{tls}").into();
    passing(
        connect(&RedisOptions {
            url,
            ..options(tls, None)
        })
        .ping()
        .await,
    );
}
