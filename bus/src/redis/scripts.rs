//! The scripts and the arguments that several of them take.

use std::time::Duration;

use redis::{Script, ScriptInvocation};

use crate::{BusError, Lease, Outgoing, Settlement, queue::encode};

/// The one consumer group of each stream; `common.lua` has it as well.
pub(super) const GROUP: &str = "workers";

pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) look: Script,
    pub(super) reserve: Script,
    pub(super) settle: Script,
    pub(super) extend: Script,
}

macro_rules! script {
    ($($name:literal),+) => { Script::new(concat!($(include_str!(concat!("scripts/", $name, ".lua"))),+)) };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            push: script!("common", "push"),
            look: script!("common", "take", "look"),
            reserve: script!("common", "take", "reserve"),
            settle: script!("common", "settle"),
            extend: script!("common", "extend"),
        }
    }
}

/// Whole milliseconds; a part of one is rounded up, so that a short wait is not none.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A message and its encoded envelope.
pub(super) struct Encoded<'a> {
    outgoing: &'a Outgoing,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn messages(messages: &[Outgoing]) -> Result<Vec<Encoded<'_>>, BusError> {
    let encode = |outgoing: &'_ Outgoing| encode(outgoing.queue.name, &outgoing.envelope);
    messages.iter().map(|outgoing| Ok(Encoded { outgoing, bytes: encode(outgoing)? })).collect()
}

/// Appends what `store()` in `common.lua` reads.
pub(super) fn append(invocation: &mut ScriptInvocation<'_>, messages: &[Encoded<'_>]) {
    invocation.arg(messages.len());
    for Encoded { outgoing, bytes } in messages {
        let policy = outgoing.queue.policy;
        invocation
            .arg(outgoing.queue.name)
            .arg(outgoing.envelope.lane.as_deref().unwrap_or_default())
            .arg(millis(outgoing.after))
            .arg(outgoing.key.as_deref().unwrap_or_default())
            .arg(millis(policy.key_window))
            .arg(policy.bound.unwrap_or(0))
            .arg(outgoing.envelope.id.as_hyphenated().encode_lower(&mut [0; 36]) as &str)
            .arg(bytes);
    }
}

/// An entry's name in its stream.
pub(super) fn entry((millis, number): (u64, u64)) -> String {
    format!("{millis}-{number}")
}

/// Appends what names a lease: queue, lane, entry, consumer, delivery.
pub(super) fn lease(invocation: &mut ScriptInvocation<'_>, lease: &Lease, consumer: &str) {
    invocation
        .arg(lease.queue)
        .arg(lease.lane.as_deref().unwrap_or_default())
        .arg(entry(lease.entry))
        .arg(consumer)
        .arg(lease.delivery);
}

/// How a dead letter is described: why, and after how many attempts.
pub(super) fn letter(queue: &'static str, reason: &str, attempts: u32) -> Result<Vec<u8>, BusError> {
    encode(queue, &(reason, attempts))
}

/// Appends one settlement, as `settle.lua` reads it.
pub(super) fn settlement(
    invocation: &mut ScriptInvocation<'_>,
    lease: &Lease,
    how: &Settlement,
) -> Result<(), BusError> {
    invocation.arg(entry(lease.entry)).arg(lease.delivery);
    match how {
        Settlement::Done { emit } if emit.is_empty() => {
            invocation.arg("done");
        }
        Settlement::Done { emit } => append(invocation.arg("emit"), &messages(emit)?),
        Settlement::Retry { after } => {
            invocation.arg("retry").arg(millis(*after));
        }
        Settlement::Defer { after } => {
            invocation.arg("defer").arg(millis(*after));
        }
        Settlement::Dead { id, reason, attempts, emit } => {
            invocation.arg("dead").arg(id.to_string()).arg(letter(lease.queue, reason, *attempts)?);
            append(invocation, &messages(emit)?);
        }
        Settlement::Release => {
            invocation.arg("release");
        }
    }
    Ok(())
}
