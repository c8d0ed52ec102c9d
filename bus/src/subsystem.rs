//! The long-running parts of a process.

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};

use crate::Shutdown;

/// Why a subsystem ended before its shutdown.
pub type SubsystemError = Box<dyn std::error::Error + Send + Sync>;

/// A part of the process that runs until its shutdown: a consumer, a web server, a poller.
#[async_trait]
pub trait Subsystem: Send {
    /// Names it in logs.
    fn name(&self) -> &str;

    /// Runs until `shutdown` says stop. An error stops the whole process.
    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError>;
}

/// Runs all of them until `shutdown`; when one fails, the others are stopped and the first failure is returned.
pub async fn run_subsystems(
    subsystems: Vec<Box<dyn Subsystem>>,
    shutdown: Shutdown,
) -> Result<(), SubsystemError> {
    let mut running: FuturesUnordered<_> = subsystems
        .into_iter()
        .map(|subsystem| {
            let name = subsystem.name().to_owned();
            let task = tokio::spawn(subsystem.run(shutdown.clone()));
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
            outcome = Err(format!(
                "{name} stopped: {}",
                crate::handler::error_chain(failure.as_ref())
            )
            .into());
        }
    }
    outcome
}
