//! A bus that does not work.

use std::{ops::Range, time::Duration};

use bus::{
    Bound, Bus, BusError, CompareAndSet, DeadLetter, DeadLetterPayload, Delivery, EnqueueOutcome,
    Isolation, Lease, MessageSelector, Outgoing, QueueAdmin, QueueSpec, QueueStatus, QueuedMessage,
    Record, RecordStore, RecordUpdate, Reserve, SettleRequest,
};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use uuid::Uuid;

/// A bus that is away, or full.
pub struct Away {
    full: bool,
    isolation: Isolation,
}

#[async_trait::async_trait]
impl QueueAdmin for Away {
    async fn status(&self, _: &QueueSpec) -> Result<QueueStatus, BusError> {
        Err(self.error())
    }
    async fn peek(&self, _: &QueueSpec, _: usize) -> Result<Vec<QueuedMessage>, BusError> {
        Err(self.error())
    }
    async fn message(&self, _: &QueueSpec, _: Uuid) -> Result<Option<QueuedMessage>, BusError> {
        Err(self.error())
    }
    async fn requeue(&self, _: &QueueSpec, _: MessageSelector) -> Result<usize, BusError> {
        Err(self.error())
    }
    async fn drop_waiting(&self, _: &QueueSpec, _: MessageSelector) -> Result<usize, BusError> {
        Err(self.error())
    }
    async fn set_paused(&self, _: &QueueSpec, _: bool) -> Result<(), BusError> {
        Err(self.error())
    }
    async fn dead(&self, _: &QueueSpec, _: &str, _: usize) -> Result<Vec<DeadLetter>, BusError> {
        Err(self.error())
    }
    async fn dead_letter(
        &self,
        _: &QueueSpec,
        _: &str,
    ) -> Result<Option<(DeadLetter, DeadLetterPayload)>, BusError> {
        Err(self.error())
    }
    async fn requeue_dead(&self, _: &QueueSpec, _: &[String]) -> Result<usize, BusError> {
        Err(self.error())
    }
    async fn drop_dead(&self, _: &QueueSpec, _: &[String]) -> Result<usize, BusError> {
        Err(self.error())
    }
}

#[async_trait::async_trait]
impl Bus for Away {
    async fn push_with(
        &self,
        _: Vec<Outgoing>,
        _: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError> {
        Err(self.error())
    }
    async fn compare_and_set(
        &self,
        _: CompareAndSet,
        _: Vec<RecordUpdate>,
    ) -> Result<bool, BusError> {
        Err(self.error())
    }
    async fn reserve(&self, _: &QueueSpec, _: Reserve) -> Result<Vec<Delivery>, BusError> {
        Err(self.error())
    }
    async fn extend(&self, _: &Lease) -> Result<(), BusError> {
        Err(self.error())
    }
    async fn settle_all(
        &self,
        _: &[SettleRequest<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError> {
        Err(self.error())
    }
    async fn records(&self, _: &RecordStore, _: &[String]) -> Result<Vec<Record>, BusError> {
        Err(self.error())
    }
    async fn indexed(
        &self,
        _: &RecordStore,
        _: &str,
        _: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        Err(self.error())
    }
    fn isolation(&self) -> &Isolation {
        &self.isolation
    }
    async fn probe_write(&self) -> Result<(), BusError> {
        Err(self.error())
    }
    async fn ping(&self) -> Result<(), BusError> {
        if !self.full {
            SystemClock.sleep(Duration::from_secs(60)).await;
        }
        Err(self.error())
    }
}

impl Away {
    pub fn new(full: bool) -> Self {
        Self {
            full,
            isolation: Isolation::default(),
        }
    }

    fn error(&self) -> BusError {
        if self.full {
            return BusError::Full {
                queue: "build:load",
                bound: Bound::Messages(1),
            };
        }
        BusError::Unfit {
            reason: "it is away".to_owned(),
        }
    }
}
