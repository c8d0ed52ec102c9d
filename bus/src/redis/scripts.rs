//! The scripts and the arguments that several of them take.

use std::time::Duration;

use redis::{Cmd, RedisWrite, Script, ToRedisArgs, ToSingleRedisArg};

use crate::{Blob, BusError, Ending, Fact, Lease, Outgoing, Settlement, ledger::Change, queue::encode};

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
            push: script!("common", "facts", "push"),
            look: script!("common", "take", "look"),
            reserve: script!("common", "take", "reserve"),
            settle: script!("common", "facts", "settle"),
            extend: script!("common", "extend"),
        }
    }
}

/// Starts a call of a script: its arguments are to follow.
pub(super) fn call(script: &Script, prefix: &str) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(script.get_hash()).arg(1).arg(prefix);
    call
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
pub(super) fn append(call: &mut Cmd, messages: &[Encoded<'_>]) {
    call.arg(messages.len());
    for Encoded { outgoing, bytes } in messages {
        let policy = outgoing.queue.policy;
        call.arg(outgoing.queue.name)
            .arg(outgoing.envelope.lane.as_deref().unwrap_or_default())
            .arg(millis(outgoing.after))
            .arg(outgoing.key.as_deref().unwrap_or_default())
            .arg(millis(policy.key_window))
            .arg(policy.bound.unwrap_or(0))
            .arg(outgoing.envelope.id.as_hyphenated().encode_lower(&mut [0; 36]) as &str)
            .arg(bytes);
    }
}

/// Appends what `record()` in `facts.lua` reads.
pub(super) fn append_facts(call: &mut Cmd, facts: &[Fact]) {
    call.arg(facts.len());
    for Fact { ledger, record, change } in facts {
        let (how, name, value, held): (_, &str, &[u8], &[u8]) = match change {
            Change::Add(entry) => ("add", "", entry, &[]),
            Change::Set { slot, value } => ("set", slot, value, &[]),
            Change::Swap { slot, from, to } => ("swap", slot, bytes(to), bytes(from)),
            Change::Tag(tag) => ("tag", tag, &[], &[]),
            Change::Untag(tag) => ("untag", tag, &[], &[]),
            Change::Erase => ("erase", "", &[], &[]),
        };
        call.arg(ledger.name).arg(record).arg(how).arg(name).arg(millis(ledger.retention)).arg(value).arg(held);
    }
}

/// No value is empty, so that says that there is none.
fn bytes(value: &Option<Blob>) -> &[u8] {
    value.as_deref().unwrap_or_default()
}

/// An entry's name in its stream.
pub(super) struct Entry(pub(super) (u64, u64));

impl ToRedisArgs for Entry {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let (millis, number) = self.0;
        out.write_arg_fmt(format_args!("{millis}-{number}"));
    }
}

impl ToSingleRedisArg for Entry {}

/// Appends what names a lease: queue, lane, entry, consumer, delivery.
pub(super) fn lease(call: &mut Cmd, lease: &Lease, consumer: &str) {
    call.arg(lease.queue)
        .arg(lease.lane.as_deref().unwrap_or_default())
        .arg(Entry(lease.entry))
        .arg(consumer)
        .arg(lease.delivery);
}

/// How a dead letter is described: why, and after how many attempts.
pub(super) fn letter(queue: &'static str, reason: &str, attempts: u32) -> Result<Vec<u8>, BusError> {
    encode(queue, &(reason, attempts))
}

/// Appends settlements of one stream, as `settle.lua` reads them. Those that are done and have nothing to send, which most
/// are, share what they have in common.
pub(super) fn settlements(call: &mut Cmd, group: &[Ending<'_>]) -> Result<(), BusError> {
    let plain = |Ending { lease, how, facts }: &Ending<'_>| {
        let first = lease.note_settlement();
        match how {
            Settlement::Done { emit } if emit.is_empty() && facts.is_empty() => {
                Some((if first { "sure" } else { "done" }, lease.delivery))
            }
            _ => None,
        }
    };
    let group: Vec<_> = group.iter().map(|one| (one, plain(one))).collect();
    let runs = group.chunk_by(|(_, one), (_, next)| one.is_some() && one == next);
    call.arg(runs.clone().count());
    for run in runs {
        let Some((Ending { lease, how, facts }, plain)) = run.first() else { continue };
        if let Some((name, delivery)) = plain {
            call.arg(*name).arg(*delivery).arg(run.len());
            for (Ending { lease, .. }, _) in run {
                call.arg(Entry(lease.entry));
            }
            continue;
        }
        let name = match how {
            Settlement::Done { .. } => "emit",
            Settlement::Retry { .. } => "retry",
            Settlement::Defer { .. } => "defer",
            Settlement::Dead { .. } => "dead",
            Settlement::Release => "release",
        };
        call.arg(name).arg(lease.delivery).arg(1).arg(Entry(lease.entry));
        match how {
            Settlement::Done { emit } => append(call, &messages(emit)?),
            Settlement::Retry { after } | Settlement::Defer { after } => {
                call.arg(millis(*after));
            }
            Settlement::Dead { id, reason, attempts, emit } => {
                call.arg(id.to_string()).arg(letter(lease.queue, reason, *attempts)?);
                append(call, &messages(emit)?);
            }
            Settlement::Release => continue,
        }
        append_facts(call, facts);
    }
    Ok(())
}
