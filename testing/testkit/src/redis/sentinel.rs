//! A master with a replica, watched by three Sentinels.

use std::{io, path::Path, time::Duration};

use bus::RedisOptions;

use super::server::{RedisServer, options, persistent, until};

/// What the Sentinels call the master.
const NAME: &str = "main";

/// How long a fail-over may take: Sentinels that vote for each other do so again after twice the time-out of 3 s.
const FAIL_OVER: Duration = Duration::from_secs(30);

/// Two servers of which one is the master, and three Sentinels that make the other one the master when it dies.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<(RedisServer, u16)>,
    sentinels: Vec<(RedisServer, u16)>,
}

impl RedisSentinels {
    /// Starts all five in `directory`, and waits until they know each other.
    pub async fn start(directory: &Path) -> io::Result<Self> {
        let listen = |port: u16| persistent(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        let master =
            RedisServer::start_on_a_port(directory.join("one"), |port| Ok(listen(port))).await?;
        let of = master.1.to_string();
        let replica = RedisServer::start_on_a_port(directory.join("two"), |port| {
            let mut arguments = listen(port);
            arguments.extend(["--replicaof", "127.0.0.1", &of].map(str::to_owned));
            // The first copy is not waited for without need.
            arguments.extend(["--repl-diskless-sync-delay", "0"].map(str::to_owned));
            Ok(arguments)
        })
        .await?;
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let place = directory.join(format!("sentinel-{number}"));
            let started = RedisServer::start_on_a_port(place.clone(), |port| {
                // A Sentinel keeps what it knows in its configuration.
                let file = place.join("sentinel.conf");
                std::fs::write(
                    &file,
                    format!(
                        "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {of} 2\n\
                         sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n"
                    ),
                )?;
                Ok(vec![file.display().to_string(), "--sentinel".to_owned()])
            })
            .await?;
            sentinels.push(started);
        }
        let all = Self {
            servers: vec![master, replica],
            sentinels,
        };
        until(
            "the sentinels know each other and the replica",
            FAIL_OVER,
            async || all.know_each_other().await,
        )
        .await?;
        Ok(all)
    }

    /// Options for a bus on the master.
    pub fn options(&self) -> RedisOptions {
        let nodes: Vec<String> = self
            .sentinels
            .iter()
            .map(|(_, port)| format!("127.0.0.1:{port}"))
            .collect();
        options(format!("redis+sentinel://{}/{NAME}", nodes.join(",")))
    }

    /// The server that is the master, or the last one that was, as the first Sentinel knows it.
    pub async fn master(&mut self) -> io::Result<&mut RedisServer> {
        let at = self.address().await?;
        let found = self.servers.iter_mut().find(|(_, port)| *port == at);
        found
            .map(|(server, _)| server)
            .ok_or_else(|| io::Error::other("the master is none of the servers"))
    }

    /// The first Sentinel.
    pub fn sentinel(&self) -> &RedisServer {
        &self.sentinels[0].0
    }

    /// Has the master and the replica change places, both alive, and waits until they have.
    pub async fn fail_over(&mut self) -> io::Result<()> {
        let before = self.address().await?;
        let (sentinel, _) = &self.sentinels[0];
        // A replica that did not respond for a moment is not a candidate, so it may take more than one try.
        until("the sentinel begins", FAIL_OVER, async || {
            sentinel
                .command::<String>(&["SENTINEL", "FAILOVER", NAME])
                .await
                .is_ok()
        })
        .await?;
        self.changed(before).await
    }

    /// Waits until there is another master than `before`, and the Sentinels agree on it.
    pub async fn changed(&self, before: u16) -> io::Result<()> {
        until("there is a new master", FAIL_OVER, async || {
            for at in 0..self.sentinels.len() {
                if self
                    .address_from(at)
                    .await
                    .ok()
                    .is_none_or(|port| port == before)
                {
                    return false;
                }
            }
            true
        })
        .await
    }

    /// The port of the master.
    pub async fn address(&self) -> io::Result<u16> {
        self.address_from(0).await
    }

    async fn address_from(&self, at: usize) -> io::Result<u16> {
        let (sentinel, _) = &self.sentinels[at];
        let (_, port): (String, u16) = sentinel
            .command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME])
            .await?;
        Ok(port)
    }

    async fn know_each_other(&self) -> bool {
        let (master, _) = &self.servers[0];
        let info = master
            .command::<String>(&["INFO", "replication"])
            .await
            .unwrap_or_default();
        let mut known = info.contains("state=online");
        for (sentinel, _) in &self.sentinels {
            let info = sentinel
                .command::<String>(&["INFO", "sentinel"])
                .await
                .unwrap_or_default();
            known &= info.contains("status=ok") && info.contains("slaves=1,sentinels=3");
        }
        known
    }
}
