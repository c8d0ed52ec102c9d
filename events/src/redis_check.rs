//! Checks at the start whether the Redis server is fit for the bus, however long it takes until it answers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Backoff, BusError, RedisBus};
use runtime::{Clock, Service, ServiceError, Shutdown};
use tracing::{info, warn};

/// Ends the process when Redis is one that would lose messages; keeps asking while it is away.
pub struct RedisCheck {
    /// The bus on that server.
    pub bus: Arc<RedisBus>,
    /// Time for the waits.
    pub clock: Arc<dyn Clock>,
}

const AWAY: Backoff = Backoff {
    first: Duration::from_millis(250),
    factor: 2,
    cap: Duration::from_secs(10),
};

#[async_trait]
impl Service for RedisCheck {
    fn name(&self) -> &str {
        "redis check"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        for attempt in 1.. {
            match self.bus.check().await {
                Ok(warnings) => {
                    info!("redis answers");
                    for warning in warnings {
                        warn!("{warning}");
                    }
                    return Ok(());
                }
                Err(error @ BusError::Unfit { .. }) => return Err(error.into()),
                Err(error) => {
                    if attempt == 1 {
                        let error: &dyn std::error::Error = &error;
                        warn!(error, "redis does not answer; retrying");
                    }
                    tokio::select! {
                        () = self.clock.sleep(AWAY.after(attempt, self.clock.as_ref())) => {}
                        () = shutdown.stopping() => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }
}
