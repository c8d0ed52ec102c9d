//! What is looked for at the start, on servers that are not good for it.

use bus::{
    BusError, RedisOptions,
    testing::{RedisCluster, RedisSentinels, RedisServer},
};
use tempfile::TempDir;

use super::connect;

async fn refusal(options: RedisOptions) -> String {
    match connect(&options).check().await {
        Err(BusError::Unfit { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_is_warned_of() {
    let directory = TempDir::new().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let bus = connect(&server.options());
    assert_eq!(bus.check().await.unwrap(), Vec::<String>::new());
    let () = server.command(&["CONFIG", "SET", "appendonly", "no"]).await.unwrap();
    assert!(bus.check().await.unwrap()[0].contains("keeps nothing on disk"));
    let () = server.command(&["CONFIG", "SET", "save", "3600 1"]).await.unwrap();
    assert!(bus.check().await.unwrap()[0].contains("no append-only file"));
}

#[tokio::test]
async fn a_node_of_a_cluster_and_a_lone_server_are_not_taken_for_each_other() {
    let directory = TempDir::new().unwrap();
    let cluster = RedisCluster::start(directory.path()).await.unwrap();
    let port = cluster.ports()[0];
    let mut options = cluster.options(&[port]);
    assert_eq!(connect(&options).check().await.unwrap(), Vec::<String>::new());
    options.url = format!("redis://127.0.0.1:{port}").into();
    assert!(refusal(options.clone()).await.contains("redis+cluster://"));

    let sentinels = RedisSentinels::start(&directory.path().join("sentinels")).await.unwrap();
    assert_eq!(connect(&sentinels.options()).check().await.unwrap(), Vec::<String>::new());
    let master = sentinels.address().await.unwrap();
    options.url = format!("redis+cluster://127.0.0.1:{master}").into();
    assert!(refusal(options.clone()).await.contains("no node of a cluster"));
    options.url = format!("redis+sentinel://127.0.0.1:{master}/main").into();
    assert!(refusal(options.clone()).await.contains("no sentinel"));
}

#[tokio::test]
async fn a_replica_and_a_sentinel_are_refused_with_what_to_name_instead() {
    let directory = TempDir::new().unwrap();
    let mut sentinels = RedisSentinels::start(directory.path()).await.unwrap();
    let master = sentinels.address().await.unwrap();
    let replica = sentinels.replica().await.unwrap().options();
    let refused = refusal(replica).await;
    assert!(refused.contains(&format!("name its master 127.0.0.1:{master}")), "{refused}");
    let refused = refusal(sentinels.sentinel().options()).await;
    assert!(refused.contains("redis+sentinel://"), "{refused}");
}
