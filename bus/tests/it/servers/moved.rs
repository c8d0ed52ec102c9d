//! One address, behind which another server takes the master's place, while connections to the old one stay.

use std::time::Duration;

use bus::{Bus, BusError, RedisOptions, Reserve};
use tempfile::TempDir;
use testkit::{Port, RedisServer};

use super::{
    connect, passing,
    relay::{Relay, listen},
    reserve, wait_begins,
};
use crate::world::{NOTES, OUT, packed, text};

struct Pair {
    servers: [(RedisServer, Port); 2],
    relay: Relay,
    _directory: TempDir,
}

impl Pair {
    /// The first is the master.
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut servers = Vec::new();
        for name in ["one", "two"] {
            let place = directory.path().join(name);
            std::fs::create_dir(&place).unwrap();
            let server = RedisServer::start(place).await.unwrap();
            let () = server
                .command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"])
                .await
                .unwrap();
            let port = listen(&server).await;
            servers.push((server, port));
        }
        let servers: [_; 2] = servers.try_into().unwrap();
        let () = servers[1]
            .0
            .command(&["REPLICAOF", "127.0.0.1", &servers[0].1.number().to_string()])
            .await
            .unwrap();
        let relay = Relay::to(servers[0].1.number()).await;
        Self {
            servers,
            relay,
            _directory: directory,
        }
    }

    /// Has the other server take the place of the master `from`, with all that it has.
    async fn swap(&self, from: usize) {
        let ((old, _), (new, port)) = (&self.servers[from], &self.servers[1 - from]);
        // WAIT asks for the writes of its own connection only.
        while offset(new, "slave_repl_offset:").await != offset(old, "master_repl_offset:").await {}
        let () = new.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        let port = port.number();
        self.relay.turn(port);
        let () = old
            .command(&["REPLICAOF", "127.0.0.1", &port.to_string()])
            .await
            .unwrap();
    }
}

/// How far a server has come in the stream of what the master wrote.
async fn offset(server: &RedisServer, field: &str) -> Option<String> {
    let info: String = server.command(&["INFO", "replication"]).await.unwrap();
    let linked = field.starts_with("master") || info.contains("master_link_status:up");
    info.lines()
        .find_map(|line| line.strip_prefix(field))
        .filter(|_| linked)
        .map(str::to_owned)
}

fn assert_read_only<T: std::fmt::Debug>(result: Result<T, BusError>) {
    let error = passing(result);
    assert!(error.contains("read only replica"), "{error}");
}

#[tokio::test]
async fn master_that_became_a_replica_is_left_at_its_first_refusal() {
    let pair = Pair::start().await;
    let url = format!("redis://127.0.0.1:{}", pair.relay.port).into();
    let bus = connect(&RedisOptions {
        url,
        ..pair.servers[0].0.options()
    });
    bus.push(vec![packed(&NOTES, "a"), packed(&NOTES, "b")])
        .await
        .unwrap();
    bus.push(vec![packed(&NOTES, "c")]).await.unwrap();
    let a = reserve(&bus, &NOTES).await;
    bus.extend(&a.lease).await.unwrap();

    pair.swap(0).await;
    assert_read_only(bus.reserve(&NOTES.spec(), Reserve::now(1)).await);
    assert_eq!(text(&reserve(&bus, &NOTES).await), "b");

    pair.swap(1).await;
    assert_read_only(bus.extend(&a.lease).await);
    bus.extend(&a.lease).await.unwrap();

    pair.swap(0).await;
    assert_read_only(bus.push(vec![packed(&OUT, "x")]).await);
    bus.push(vec![packed(&OUT, "x")]).await.unwrap();
    assert_eq!(text(&reserve(&bus, &OUT).await), "x");

    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move {
            bus.reserve(
                &OUT.spec(),
                Reserve {
                    wait: Duration::from_secs(3600),
                    ..Reserve::now(1)
                },
            )
            .await
        }
    });
    wait_begins(&pair.servers[1].0).await;
    pair.swap(1).await;
    passing(waiting.await.unwrap());
    // What the wait found out holds for all.
    bus.push(vec![packed(&OUT, "y")]).await.unwrap();
    assert_eq!(text(&reserve(&bus, &OUT).await), "y");
}
