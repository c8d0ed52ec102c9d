//! A claim: an intention that is recorded before an effect that has no key of its own.
//!
//! An effect outside the bus is repeated when its message is delivered again. Where the peer knows a key by which it
//! refuses the repetition, that is enough. Where it does not, the handler [claims](Context::claim) the effect first:
//!
//! ```text
//! match cx.claim(&CALLS, id, CALL).await? {
//!     Claim::Acquired(claim) => match call().await {          // this delivery alone makes the effect
//!         Ok(result) => claim.complete_now(cx, &result).await?,
//!         Err(error) if error.had_no_effect() => claim.release(cx),
//!         Err(error) => …                                     // it may have been made: the claim stays until it runs out
//!     },
//!     Claim::Held { look_again, .. } => return Ok(Outcome::defer(look_again, "another delivery is about to call")),
//!     Claim::Done(result) => …                                // the effect was made: it is not repeated
//! }
//! ```
//!
//! # Races
//!
//! * Two deliveries claim at once: both write by compare-and-set, so one of them acquires the claim.
//! * A process dies after its claim. Nobody can know whether it made the effect. The next delivery finds the claim held, and
//!   waits until it expires: later than the effect may take, so that nobody makes it still. Then it acquires the claim. It
//!   may make the effect a second time; a handler for which that is worse than none checks [`ClaimHandle::is_takeover`], and
//!   does not make it.
//! * A process dies after the effect and before [`ClaimHandle::complete_now`] has ended: the same.
//! * The bus is away when the effect was made. [`ClaimHandle::complete_now`] retries until it is back. Meanwhile the worker
//!   renews the lease as soon as it can, so an outage that is longer than the lease and the claim repeats nothing.
//! * The bus loses the claim, since its server was killed or failed over. Completing the claim records the result all the
//!   same, unless another delivery has claimed the effect since.
//! * A process is stopped for longer than the claim lasts, and goes on: it makes the effect beside its successor. Its
//!   `complete` and `release` change nothing then, since the claim is another's.
//!
//! A delivery measures the age of a claim by its own clock. A clock that is ahead by more than the claim lasts takes the
//! claim over early. So a claim must last much longer than clocks differ.

use std::time::Duration;

use jiff::Timestamp;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tracing::warn;

use crate::{
    Blob, BusError, CompareAndSet, Context, DecodeError, Field, Record, RecordStore, RecordUpdate,
    Retry, Retryable, blob, encoding::encode, worker::WRITE_RETRY,
};
use runtime::error_chain;

/// The longest wait of a delivery for a claim of another one, which may be completed or released before it expires.
const RECHECK: Duration = Duration::from_secs(5);

/// A field of records that has claims, and how long each lasts.
#[derive(Debug, Clone, Copy)]
pub struct ClaimField {
    name: &'static str,
    ttl: Duration,
}

/// The outcome of [`Context::claim`].
#[derive(Debug)]
#[must_use = "only who acquired the claim may make the effect"]
pub enum Claim<R> {
    /// This delivery makes the effect; no other does meanwhile.
    Acquired(ClaimHandle),
    /// Another delivery has claimed the effect, and may have died since.
    Held {
        /// The time at which the claim expires.
        until: Timestamp,
        /// The wait before the next attempt to claim.
        look_again: Duration,
    },
    /// The effect was made before, with this result.
    Done(R),
}

/// An acquired claim. When it is dropped, the claim stays until it expires.
#[derive(Debug)]
pub struct ClaimHandle {
    store: RecordStore,
    record: String,
    field: &'static str,
    mine: Blob,
    is_takeover: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State<R> {
    Claimed { at: Timestamp, by: String },
    Done(R),
}

/// The state of a claim, without the type of its result.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnyState {
    Claimed { at: Timestamp },
    Done(IgnoredAny),
}

impl ClaimField {
    /// The field with this name. A claim expires after `ttl`, which is longer than its effect may take, or with its
    /// record if that is earlier. With [`Duration::MAX`] it always expires with its record.
    pub const fn new(name: &'static str, ttl: Duration) -> Self {
        Self { name, ttl }
    }

    /// The time of the claim in `record`; `None` when there is none, or it is completed.
    pub fn claimed_at(&self, record: &Record) -> Result<Option<Timestamp>, DecodeError> {
        let state: Option<AnyState> = record.field(Field::new(self.name))?;
        Ok(state.and_then(|state| match state {
            AnyState::Claimed { at } => Some(at),
            AnyState::Done(_) => None,
        }))
    }
}

impl ClaimHandle {
    /// Whether an earlier claim expired: its owner died, or is slow. It may have made the effect.
    pub fn is_takeover(&self) -> bool {
        self.is_takeover
    }

    /// Records that the effect was made, when this delivery is settled.
    pub fn complete<R: Serialize>(self, cx: &Context, result: &R) -> Result<(), BusError> {
        for update in self.done(result)? {
            cx.record(update);
        }
        Ok(())
    }

    /// Records now that the effect was made. Retries while the bus does not answer, until the handler is cancelled. After
    /// an error it is recorded when this delivery is settled.
    pub async fn complete_now<R: Serialize>(
        self,
        cx: &Context,
        result: &R,
    ) -> Result<(), BusError> {
        let done = self.done(result)?;
        let mut failures = 0;
        let mut is_cancelled = false;
        loop {
            let Err(error) = cx.record_now(done.to_vec()).await else {
                return Ok(());
            };
            failures += 1;
            let is_outage = matches!(error.retry(), Retry::Defer(_));
            if is_outage && !is_cancelled {
                if failures == 1 {
                    let error = error_chain(&error);
                    warn!(error, "cannot record the result of a claim; retrying");
                }
                is_cancelled = tokio::select! {
                    () = cx.cancelled() => true,
                    () = cx.clock().sleep(WRITE_RETRY.after(failures, cx.clock().as_ref())) => false,
                };
                // A lost lease shows that the bus answers, and there is no settlement. Before the process ends there is
                // one, which must not wait for another failure.
                if !cx.shutdown().is_cancelled() {
                    continue;
                }
            }
            for update in done {
                cx.record(update);
            }
            return Err(error);
        }
    }

    /// Releases the claim when this delivery is settled: the effect was surely not made, or may be repeated.
    pub fn release(self, cx: &Context) {
        cx.record(self.swap(None));
    }

    /// The updates that record the result, whether the bus has this claim or has lost it.
    fn done<R: Serialize>(&self, result: &R) -> Result<[RecordUpdate; 2], BusError> {
        let done = Blob::from(encode(self.store.name, &State::Done(result))?);
        let lost =
            self.store
                .compare_and_set_bytes(&self.record, self.field, None, Some(done.clone()));
        Ok([self.swap(Some(done)).into(), lost.into()])
    }

    fn swap(&self, to: Option<Blob>) -> CompareAndSet {
        self.store
            .compare_and_set_bytes(&self.record, self.field, Some(self.mine.clone()), to)
    }
}

impl Context {
    /// Claims an effect for this delivery alone.
    pub async fn claim<R: DeserializeOwned>(
        &self,
        store: &RecordStore,
        record: &str,
        field: ClaimField,
    ) -> Result<Claim<R>, BusError> {
        let me = self.clock().new_id().to_string();
        self.claim_as(&me, store, record, field).await
    }

    /// Claims an effect for `owner`, which several deliveries may share: each of them acquires the owner's claim.
    pub async fn claim_as<R: DeserializeOwned>(
        &self,
        owner: &str,
        store: &RecordStore,
        record: &str,
        ClaimField { name: field, ttl }: ClaimField,
    ) -> Result<Claim<R>, BusError> {
        let now = self.clock().now();
        let claimed: State<()> = State::Claimed {
            at: now,
            by: owner.to_owned(),
        };
        let mine = Blob::from(encode(store.name, &claimed)?);
        let acquired = |mine, is_takeover| {
            Claim::Acquired(ClaimHandle {
                store: *store,
                record: record.to_owned(),
                field,
                mine,
                is_takeover,
            })
        };
        let held_since = |at: Timestamp| {
            let until = at.checked_add(ttl).unwrap_or(Timestamp::MAX);
            let rest = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            let look_again = rest.min(RECHECK);
            Claim::Held { until, look_again }
        };
        let claim = async |before: Option<Blob>| {
            let change = store.compare_and_set_bytes(record, field, before, Some(mine.clone()));
            self.compare_and_set(change, Vec::new()).await
        };

        if claim(None).await? {
            return Ok(acquired(mine, false));
        }
        let mut found = self.recorded(store, record).await?;
        let Some(before) = found.fields.remove(field) else {
            // It was released between the two exchanges.
            return Ok(held_since(now));
        };
        let state = blob::decode(&before).map_err(|source| BusError::Record {
            record: record.to_owned(),
            source: DecodeError::Body(source),
        })?;
        Ok(match state {
            State::Done(result) => Claim::Done(result),
            State::Claimed { by, .. } if by == owner => acquired(before, false),
            State::Claimed { at, .. } if now.duration_since(at).unsigned_abs() < ttl => {
                held_since(at)
            }
            State::Claimed { .. } if claim(Some(before)).await? => acquired(mine, true),
            State::Claimed { .. } => held_since(now),
        })
    }
}
