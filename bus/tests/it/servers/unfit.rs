//! What is looked for at the start, on servers that are not good for it.

use bus::{BusError, RedisOptions};
use tempfile::TempDir;
use testkit::{RedisCluster, RedisServer};

use super::{connect, relay::listen};

/// Why a server is refused at the start.
pub async fn refusal(options: &RedisOptions) -> String {
    match connect(options).check().await {
        Err(BusError::Unfit { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn server_without_persistence_is_warned_of() {
    let directory = TempDir::new().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let bus = connect(&server.options());
    assert_eq!(bus.check().await.unwrap(), Vec::<String>::new());
    let () = server
        .command(&["CONFIG", "SET", "appendonly", "no"])
        .await
        .unwrap();
    assert!(bus.check().await.unwrap()[0].contains("keeps nothing on disk"));
    let () = server
        .command(&["CONFIG", "SET", "save", "3600 1"])
        .await
        .unwrap();
    assert!(bus.check().await.unwrap()[0].contains("no append-only file"));
}

#[tokio::test]
async fn cluster_node_and_single_server_are_distinguished() {
    let directory = TempDir::new().unwrap();
    let cluster = RedisCluster::start(&directory.path().join("cluster"))
        .await
        .unwrap();
    let mut options = cluster.options(&cluster.ports()[..1]);
    assert_eq!(
        connect(&options).check().await.unwrap(),
        Vec::<String>::new()
    );
    options.url = format!("redis://127.0.0.1:{}", cluster.ports()[0]).into();
    let refused = refusal(&options).await;
    assert!(refused.contains("redis+cluster://"), "{refused}");

    let lone = RedisServer::start(directory.path()).await.unwrap();
    let port = listen(&lone).await;
    options.url = format!("redis+cluster://127.0.0.1:{}", port.number()).into();
    let refused = refusal(&options).await;
    assert!(refused.contains("not a node of a cluster"), "{refused}");
}

#[tokio::test]
async fn replica_is_refused_with_its_master() {
    let directory = TempDir::new().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let () = server
        .command(&["REPLICAOF", "redis.example.com", "6379"])
        .await
        .unwrap();
    let refused = refusal(&server.options()).await;
    assert!(
        refused.contains("name its master redis.example.com:6379"),
        "{refused}"
    );
}
