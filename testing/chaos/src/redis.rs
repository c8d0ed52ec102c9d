//! The Redis of a campaign: one that ends and comes back while the campaign goes on.

use std::{path::Path, time::Duration};

use anyhow::Context;
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use testkit::RedisServer;
use tokio::task::JoinHandle;

/// A server that is up, or on its way back.
pub struct Redis {
    url: String,
    state: State,
    /// The times in which it was away.
    pub downtimes: Vec<(Timestamp, Timestamp)>,
}

type Restarted = anyhow::Result<(RedisServer, (Timestamp, Timestamp))>;

enum State {
    Up(RedisServer),
    Restarting(JoinHandle<Restarted>),
    /// It was not to be started again.
    Gone,
}

impl Redis {
    /// Starts a server that keeps an append-only file in `directory`.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let server = RedisServer::start(directory)
            .await
            .context("cannot start a redis")?;
        Ok(Self {
            url: server.url(),
            state: State::Up(server),
            downtimes: Vec::new(),
        })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is not on its way back.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Ends it by SIGTERM, or `by_force` by SIGKILL, and starts it again after `away`. `false` when it is away already.
    pub fn restart(&mut self, away: Duration, by_force: bool) -> bool {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Up(server) => {
                self.state = State::Restarting(tokio::spawn(restart(server, away, by_force)));
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Takes note of a server that has come back.
    pub async fn tend(&mut self) -> anyhow::Result<()> {
        if matches!(&self.state, State::Restarting(restarting) if restarting.is_finished()) {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits until it is not on its way back: a server that is being started would outlive the task that starts it.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Restarting(restarting) => {
                let (server, downtime) =
                    restarting.await.context("restarting redis panicked")??;
                self.downtimes.push(downtime);
                self.state = State::Up(server);
            }
            other => self.state = other,
        }
        Ok(())
    }
}

async fn restart(mut server: RedisServer, away: Duration, by_force: bool) -> Restarted {
    let from = SystemClock.now();
    if by_force {
        server.stop().context("cannot kill redis")?;
    } else {
        server.stop_gently().await.context("redis did not end")?;
    }
    SystemClock.sleep(away).await;
    server.restart().await.context("redis did not come back")?;
    Ok((server, (from, SystemClock.now())))
}
