//! The scripts and the arguments that several of them take.

use std::time::Duration;

use redis::{Script, ScriptInvocation};

use super::encode;
use crate::{BusError, Lease, Outgoing};

pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) reserve: Script,
    pub(super) settle: Script,
    pub(super) extend: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("scripts/common.lua"), include_str!(concat!("scripts/", $name, ".lua"))))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            push: script!("push"),
            reserve: script!("reserve"),
            settle: script!("settle"),
            extend: script!("extend"),
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
    bytes: Vec<u8>,
}

pub(super) fn messages(messages: &[Outgoing]) -> Result<Vec<Encoded<'_>>, BusError> {
    let encode = |outgoing: &'_ Outgoing| encode(outgoing.queue.name, &outgoing.envelope);
    messages.iter().map(|outgoing| Ok(Encoded { outgoing, bytes: encode(outgoing)? })).collect()
}

/// Appends what `store()` in `common.lua` reads.
pub(super) fn append(invocation: &mut ScriptInvocation<'_>, messages: Vec<Encoded<'_>>) {
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
            .arg(outgoing.envelope.id.to_string())
            .arg(bytes);
    }
}

/// Appends what names a lease: queue, lane, entry, consumer, delivery.
pub(super) fn lease(invocation: &mut ScriptInvocation<'_>, lease: &Lease, consumer: &str) {
    invocation
        .arg(lease.queue)
        .arg(lease.lane.as_deref().unwrap_or_default())
        .arg(&lease.entry)
        .arg(consumer)
        .arg(lease.delivery);
}
