//! A Redis Cluster of three masters.

use std::{io, path::Path, time::Duration};

use bus::RedisOptions;

use super::server::{RedisServer, options, persistent, until};
use crate::Port;

/// The first slots of the three masters, and the end.
const BOUNDS: [u16; 4] = [0, 5461, 10923, 16384];

/// How long the masters may take to agree on something.
const AGREE: Duration = Duration::from_secs(30);

/// Three masters, each with a third of the slots.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<(RedisServer, u16)>,
    /// Where they speak with each other.
    buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts the masters in `directory`, and waits until each sees a cluster that works.
    pub async fn start(directory: &Path) -> io::Result<Self> {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for number in 0..3 {
            let bus = Port::claim()?;
            let place = directory.join(format!("node-{number}"));
            let started = RedisServer::start_on_a_port(place, |port| {
                let mut arguments =
                    persistent(["--bind", "127.0.0.1", "--port", &port.to_string()]);
                let cluster = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1000",
                    "--cluster-port",
                ];
                arguments.extend(cluster.map(str::to_owned));
                arguments.push(bus.number().to_string());
                Ok(arguments)
            });
            nodes.push(started.await?);
            buses.push(bus);
        }
        let cluster = Self { nodes, buses };
        let (first, _) = &cluster.nodes[0];
        for (number, (node, port)) in cluster.nodes.iter().enumerate() {
            let slots = [BOUNDS[number], BOUNDS[number + 1] - 1].map(|slot| slot.to_string());
            let () = node
                .command(&["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]])
                .await?;
            let () = node
                .command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])
                .await?;
            let (port, bus) = (port.to_string(), cluster.buses[number].number().to_string());
            if number > 0 {
                let () = first
                    .command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                    .await?;
            }
        }
        until("the cluster works", AGREE, async || {
            let mut works = true;
            for (node, _) in &cluster.nodes {
                let info = node
                    .command::<String>(&["CLUSTER", "INFO"])
                    .await
                    .unwrap_or_default();
                works &=
                    info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
            }
            works
        })
        .await?;
        Ok(cluster)
    }

    /// The ports of the masters.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|(_, port)| *port).collect()
    }

    /// The masters.
    pub fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().map(|(node, _)| node)
    }

    /// Options for a bus that asks the masters with these ports where its keys are.
    pub fn options(&self, seeds: &[u16]) -> RedisOptions {
        let nodes: Vec<String> = seeds
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        options(format!("redis+cluster://{}", nodes.join(",")))
    }

    /// The place of the master that has the slot of a namespace.
    pub async fn master(&self, namespace: &str) -> io::Result<usize> {
        for (place, (node, _)) in self.nodes.iter().enumerate() {
            // The others answer where else it is.
            if node
                .command::<bool>(&["EXISTS", &format!("{{{namespace}}}")])
                .await
                .is_ok()
            {
                return Ok(place);
            }
        }
        Err(io::Error::other(format!(
            "no master has the slot of {namespace}"
        )))
    }

    /// Begins to move the slot of a namespace to the master at place `to`: nothing has moved yet.
    pub async fn begin_to_move(&self, namespace: &str, to: usize) -> io::Result<Move<'_>> {
        let slot = self.slot(namespace).await?.to_string();
        let (from, _) = &self.nodes[self.master(namespace).await?];
        let (target, port) = &self.nodes[to];
        let from_id: String = from.command(&["CLUSTER", "MYID"]).await?;
        let id: String = target.command(&["CLUSTER", "MYID"]).await?;
        let () = target
            .command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
            .await?;
        let () = from
            .command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id])
            .await?;
        Ok(Move {
            cluster: self,
            slot,
            from,
            target,
            port: port.to_string(),
            id,
        })
    }

    async fn slot(&self, namespace: &str) -> io::Result<u16> {
        self.nodes[0]
            .0
            .command(&["CLUSTER", "KEYSLOT", &format!("{{{namespace}}}")])
            .await
    }
}

/// A slot on its way to another master.
#[derive(Debug)]
pub struct Move<'a> {
    cluster: &'a RedisCluster,
    slot: String,
    from: &'a RedisServer,
    target: &'a RedisServer,
    port: String,
    id: String,
}

impl Move<'_> {
    /// Moves one key; returns whether there was one.
    pub async fn move_a_key(&self) -> io::Result<bool> {
        let keys: Vec<String> = self
            .from
            .command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "1"])
            .await?;
        let Some(key) = keys.first() else {
            return Ok(false);
        };
        let () = self
            .from
            .command(&["MIGRATE", "127.0.0.1", &self.port, key, "0", "5000"])
            .await?;
        Ok(true)
    }

    /// Moves all keys and then the slot.
    pub async fn finish(self) -> io::Result<()> {
        while self.move_a_key().await? {}
        let () = self
            .target
            .command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.id])
            .await?;
        let () = self
            .from
            .command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.id])
            .await?;
        for node in self.cluster.nodes() {
            let () = node
                .command(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.id])
                .await?;
        }
        Ok(())
    }
}
