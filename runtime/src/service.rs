//! Services: the long-running parts of a process.

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};

use crate::{Shutdown, error_chain};

/// The error that ended a service before its shutdown.
pub type ServiceError = Box<dyn std::error::Error + Send + Sync>;

/// A part of the process that runs until its shutdown: a consumer, a web server, a poller.
#[async_trait]
pub trait Service: Send {
    /// The name in logs and errors.
    fn name(&self) -> &str;

    /// Runs until `shutdown` is stopping. An error stops the whole process.
    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError>;
}

/// Runs all services until `shutdown`. When one fails, stops the others and returns the first failure.
pub async fn run_services(
    services: Vec<Box<dyn Service>>,
    shutdown: Shutdown,
) -> Result<(), ServiceError> {
    let mut running: FuturesUnordered<_> = services
        .into_iter()
        .map(|service| {
            let name = service.name().to_owned();
            let task = tokio::spawn(service.run(shutdown.clone()));
            async move { (name, task.await) }
        })
        .collect();
    let mut outcome = Ok(());
    while let Some((name, ended)) = running.next().await {
        let failure = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(join) => Box::new(join),
        };
        shutdown.stop();
        if outcome.is_ok() {
            outcome = Err(format!("{name} stopped: {}", error_chain(failure.as_ref())).into());
        }
    }
    outcome
}
