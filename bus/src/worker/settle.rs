//! Writing of settlements.

use runtime::{Shutdown, chain, error_chain};
use tracing::{error, warn};

use super::{DeliveryEnd, Ended, LAST_TRIES, WRITE_RETRY, Worker};
use crate::{BusError, Delivery, RecordUpdate, SettleRequest, Settlement};

impl Worker {
    /// Settles deliveries. Retries until the bus answers, or until [`LAST_TRIES`] after the process must end.
    pub(crate) async fn settle(&self, batch: &[Ended], shutdown: &Shutdown) {
        tokio::select! {
            () = self.settle_until_answered(batch, shutdown) => {}
            () = async { shutdown.cancelled().await; self.clock.sleep(LAST_TRIES).await } => {
                warn!(
                    queue = self.queue.name,
                    messages = batch.len(),
                    "cannot settle messages before the process ends; they return when their leases run out"
                );
            }
        }
    }

    /// Settles deliveries. When the bus refuses a settlement, the attempt counts as failed.
    async fn settle_until_answered(&self, batch: &[Ended], shutdown: &Shutdown) {
        let lost = |ended: &&Ended| matches!(ended.end, DeliveryEnd::LeaseLost);
        batch
            .iter()
            .filter(lost)
            .for_each(|_| self.metrics.count(None));
        let settlements = batch.iter().filter_map(|ended| match &ended.end {
            DeliveryEnd::Settled(how) => Some((&ended.delivery, how, &ended.updates[..])),
            DeliveryEnd::LeaseLost => None,
        });
        let refused = self.write(settlements.collect(), shutdown).await;
        if refused.is_empty() {
            return;
        }
        let fallbacks: Vec<_> = refused
            .iter()
            .filter_map(|(delivery, how, error)| {
                Some((*delivery, self.fallback(delivery, how, error)?))
            })
            .collect();
        let settlements = fallbacks
            .iter()
            .map(|(delivery, how)| (*delivery, how, &[][..]));
        for (delivery, _, error) in self.write(settlements.collect(), shutdown).await {
            error!(
                queue = self.queue.name,
                id = %delivery.envelope.id,
                error = chain(&error),
                "cannot settle a message; it returns when its lease runs out"
            );
        }
    }

    /// Writes settlements as soon as the bus answers. Returns those that the bus refused.
    async fn write<'a>(
        &self,
        mut settlements: Vec<(&'a Delivery, &'a Settlement, &'a [RecordUpdate])>,
        shutdown: &Shutdown,
    ) -> Vec<(&'a Delivery, &'a Settlement, BusError)> {
        let mut failed = None;
        for failures in 1.. {
            let requests = settlements
                .iter()
                .map(|(delivery, how, updates)| SettleRequest {
                    lease: &delivery.lease,
                    how,
                    updates,
                });
            let requests: Vec<_> = requests.collect();
            match self.bus.settle_all(&requests).await {
                Ok(results) => return self.count_results(settlements, results, failures),
                Err(error) if failed.is_none() => {
                    warn!(
                        queue = self.queue.name,
                        error = chain(&error),
                        "cannot settle messages; retrying"
                    );
                    failed = Some(self.failed_writes.add());
                }
                Err(_) => {}
            }
            if !shutdown.is_stopping() {
                // The first release may have arrived, and the message may be in flight here again, under the same number. A
                // second release would take it from its handler. Without one it returns when its lease runs out.
                settlements.retain(|(_, how, _)| !matches!(how, Settlement::Release));
            }
            self.clock
                .sleep(WRITE_RETRY.after(failures, self.clock.as_ref()))
                .await;
        }
        Vec::new()
    }

    /// Counts the settlements that were written or lost. Returns those that the bus refused.
    fn count_results<'a>(
        &self,
        settlements: Vec<(&'a Delivery, &'a Settlement, &'a [RecordUpdate])>,
        results: Vec<Result<(), BusError>>,
        tries: u32,
    ) -> Vec<(&'a Delivery, &'a Settlement, BusError)> {
        let mut refused = Vec::new();
        let mut lost = 0;
        for ((delivery, how, _), result) in settlements.into_iter().zip(results) {
            match result {
                Ok(()) => self.metrics.count(Some(how)),
                Err(BusError::LeaseLost { .. }) => {
                    self.metrics.count(None);
                    lost += 1;
                }
                Err(error) => refused.push((delivery, how, error)),
            }
        }
        if lost > 0 {
            // After a failed try: the first one may have arrived.
            warn!(
                queue = self.queue.name,
                lost, tries, "leases lost; settlements not written"
            );
        }
        refused
    }

    /// The settlement in place of one that the bus refused: without its messages and records. `None` for a release.
    fn fallback(
        &self,
        delivery: &Delivery,
        how: &Settlement,
        error: &BusError,
    ) -> Option<Settlement> {
        let policy = self.queue.policy;
        let error = error_chain(error);
        error!(
            queue = self.queue.name,
            id = %delivery.envelope.id,
            error,
            "cannot write a settlement; the attempt counts as failed"
        );
        if matches!(how, Settlement::Release) {
            // The message returns when its lease runs out.
            return None;
        }
        if delivery.attempt < policy.attempts {
            return Some(Settlement::Retry {
                after: policy.backoff.after(delivery.attempt, self.clock.as_ref()),
            });
        }
        Some(Settlement::Dead {
            id: delivery.envelope.id,
            reason: format!("cannot write the settlement: {error}"),
            attempts: delivery.attempt,
            emit: Vec::new(),
        })
    }
}
