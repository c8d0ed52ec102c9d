//! Feeds the chain, and tries until Redis has confirmed each message.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus::{Bus, BusError, Outgoing, RedisBus};
use jiff::Timestamp;
use runtime::{Clock, SystemClock};
use uuid::Uuid;

use crate::{
    chain::{Step, TestMessage, Trouble, key},
    plan::Plan,
};

const TICK: Duration = Duration::from_millis(20);
const BATCH: usize = 20;
/// How many messages may be on their way: the workers set the pace when they cannot keep up.
const ON_THE_WAY: usize = 2000;

/// How far the campaign is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages that Redis confirmed.
    pub pushed: AtomicUsize,
    /// Messages that came to the end of the chain.
    pub finished: AtomicUsize,
}

/// What the producer knows at its end.
#[derive(Debug, Default)]
pub struct Sent {
    /// Which message each envelope holds; a message that was packed again has several.
    pub envelopes: HashMap<Uuid, u32>,
    /// Pushes that failed, and were tried again.
    pub failed: u64,
    /// Messages that had been stored by a push that seemed to fail.
    pub repeated: usize,
}

/// Pushes all messages of `plan`.
pub async fn produce(
    bus: RedisBus,
    plan: Arc<Plan>,
    progress: Arc<Progress>,
) -> Result<Sent, BusError> {
    let begun = SystemClock.now();
    let mut sent = Sent::default();
    let mut next = 0;
    while next < plan.messages.len() {
        let may = due(&plan, begun).min(progress.finished.load(Ordering::Relaxed) + ON_THE_WAY);
        if may <= next {
            SystemClock.sleep(TICK).await;
            continue;
        }
        let batch = &plan.messages[next..may.min(next + BATCH)];
        let messages = batch.iter().map(pack).collect::<Result<Vec<_>, _>>()?;
        sent.envelopes.extend(
            messages
                .iter()
                .zip(batch)
                .map(|(out, message)| (out.envelope.id, message.number)),
        );
        match bus.push(messages).await {
            Ok(pushed) => {
                sent.repeated += pushed.duplicates;
                next += batch.len();
                progress.pushed.store(next, Ordering::Relaxed);
            }
            Err(_) => {
                sent.failed += 1;
                SystemClock.sleep(TICK).await;
            }
        }
    }
    Ok(sent)
}

/// How many messages are to be pushed by now.
fn due(plan: &Plan, begun: Timestamp) -> usize {
    let elapsed = SystemClock.now().duration_since(begun).as_secs_f64();
    let share = elapsed / plan.duration.as_secs_f64().max(f64::MIN_POSITIVE);
    ((plan.messages.len() as f64 * share) as usize).min(plan.messages.len())
}

/// Packs each try again, with an id and a tag of its own, so that a message that was stored twice is noticed.
fn pack(message: &TestMessage) -> Result<Outgoing, BusError> {
    let tagged = TestMessage {
        tag: SystemClock.random(),
        ..message.clone()
    };
    let mut outgoing = Step::First.queue().pack(&tagged, &SystemClock)?;
    outgoing.key = Some(key(message.number));
    match message.trouble {
        Some(Trouble::Undecodable) => {
            outgoing.envelope.body = b"\xc1 is no message".to_vec().into()
        }
        Some(Trouble::Version) => outgoing.envelope.version = 99,
        _ => {}
    }
    Ok(outgoing)
}
