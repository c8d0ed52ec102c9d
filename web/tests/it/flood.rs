//! Many requests at once, stored on a real Redis.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use build::BuildRequest;
use bus::{Bus, Policy, Queue, RedisBus};
use runtime::SystemClock;
use testkit::RedisServer;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use web::WebSettings;

use crate::{World, log, read, settings};

const DISTINCT: usize = 5000;
const CONNECTIONS: usize = 50;

async fn redis() -> (tempfile::TempDir, RedisServer, Arc<dyn Bus>) {
    let directory = tempfile::tempdir().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let bus = RedisBus::new(&server.options(), &SystemClock).unwrap();
    (directory, server, Arc::new(bus))
}

fn request(number: usize) -> String {
    format!(
        "POST /codereview/new?diff={number}&repo=PHID-REPO-aaaaaaaaaaaaaaaaaaaa&revision=1\
         &target=PHID-HMBT-{number:020} HTTP/1.1\r\nHost: x\r\n\r\n"
    )
}

/// Sends these on one connection, and returns the statuses.
async fn send(address: SocketAddr, numbers: Vec<usize>) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut statuses = Vec::new();
    for number in numbers {
        stream.write_all(request(number).as_bytes()).await.unwrap();
        statuses.push(read(&mut stream).await.0[9..12].to_owned());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_thousands_of_targets_is_stored_once() {
    let (_directory, _server, bus) = redis().await;
    let world = World::serve(settings(bus)).await;
    // Every fifth is sent twice, by two connections side by side.
    let numbers = |connection: usize| {
        let own = (1..=DISTINCT).filter(move |number| number % CONNECTIONS == connection);
        let repeated = (1..=DISTINCT)
            .filter(move |number| number % 5 == 0 && (number + 5) % CONNECTIONS == connection);
        own.chain(repeated).collect::<Vec<_>>()
    };
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|connection| tokio::spawn(send(world.address, numbers(connection))))
        .collect();
    let mut answers = 0;
    for client in clients {
        let statuses = client.await.unwrap();
        assert!(
            statuses.iter().all(|status| status == "200"),
            "{statuses:?}"
        );
        answers += statuses.len();
    }
    assert_eq!(answers, DISTINCT + DISTINCT / 5);
    let stored = world.stored().await;
    let targets: BTreeSet<_> = stored
        .iter()
        .map(|request| request.target.clone())
        .collect();
    assert_eq!((stored.len(), targets.len()), (DISTINCT, DISTINCT));
}

#[tokio::test]
async fn full_queue_refuses_new_targets_and_accepts_stored_ones() {
    const SMALL: Queue<BuildRequest> = Queue::new(
        "build:load",
        Policy {
            max_depth: Some(3),
            ..Policy::DEFAULT
        },
    );
    let (_directory, _server, bus) = redis().await;
    let world = World::serve(WebSettings {
        log: log(SMALL),
        ..settings(bus)
    })
    .await;
    assert_eq!(
        send(world.address, vec![1, 2, 3, 4]).await,
        ["200", "200", "200", "503"]
    );
    let (head, _) = world.answer(request(5).as_bytes()).await;
    assert!(head.contains("retry-after: 5\r\n"), "{head}");
    assert_eq!(send(world.address, vec![2]).await, ["200"]);
    assert_eq!(world.stored().await.len(), 3);
}
