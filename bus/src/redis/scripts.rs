//! The scripts, and what each is called with.
//!
//! Each script has one type, whose fields are its arguments: whoever calls it gives all of them. The scripts check them
//! once more, before their first write.

use std::{
    borrow::{Borrow, Cow},
    ops::Range,
    sync::LazyLock,
    time::Duration,
};

use redis::{Arg, Cmd, FromRedisValue, RedisWrite, Script, ToRedisArgs, ToSingleRedisArg};

use super::entries::Taken;
use crate::{
    Blob, BusError, Ending, Fact, Lease, Outgoing, QueueSpec, SUSPECT, Settlement, Which,
    ledger::Change, queue::encode,
};

/// The one consumer group of each stream; `common.lua` has it as well.
pub(super) const GROUP: &str = "workers";

/// The largest number that a script takes.
const LARGEST: u64 = 999_999_999_999_999;

/// A call of a script.
pub(super) trait Call {
    /// What the script returns.
    type Answer: FromRedisValue;

    fn script(&self) -> &'static Script;

    /// Appends all arguments.
    fn arguments(&self, call: &mut Cmd);

    /// About how many arguments there are, and how many bytes they have.
    fn size(&self) -> (usize, usize) {
        (8, 256)
    }

    /// The command that makes the call.
    fn command(&self, prefix: &str) -> Cmd {
        let (arguments, bytes) = self.size();
        let mut call = Cmd::with_capacity(arguments, bytes);
        call.arg("EVALSHA")
            .arg(self.script().get_hash())
            .arg(1)
            .arg(prefix);
        self.arguments(&mut call);
        call
    }
}

macro_rules! script {
    ($($name:literal),+) => {{
        static SCRIPT: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $name, ".lua"))),+)));
        &SCRIPT
    }};
}

/// A script of operators.
macro_rules! operate {
    ($name:literal) => {
        script!("common", "operate/common", $name)
    };
}

/// Stores messages with what is recorded with them, each push for itself.
pub(super) struct Push<'a> {
    pub(super) pushes: &'a [Packed],
}

/// What one push is to store and record.
pub(super) struct Packed {
    pub(super) messages: Vec<PackedMessage<Outgoing>>,
    pub(super) facts: Vec<Fact>,
}

/// A message and its encoded envelope.
pub(super) struct PackedMessage<O> {
    pub(super) outgoing: O,
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    /// About how many bytes it stores, without names.
    pub(super) fn size(&self) -> usize {
        let messages: usize = self
            .messages
            .iter()
            .map(|message| message.bytes.len())
            .sum();
        let facts: usize = self.facts.iter().map(|fact| fact.change.size()).sum();
        messages + facts
    }

    fn describe(&self, call: &mut Cmd, part: Part) {
        let mut to = DescriptionWriter { call, part };
        to.messages(&self.messages);
        to.facts(&self.facts);
    }
}

/// What is written of a description.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// What many have in common: all of it, but each value is empty.
    Kind,
    /// The values alone.
    Values,
}

/// Writes a description of messages or of changes into a call.
struct DescriptionWriter<'a> {
    call: &'a mut Cmd,
    part: Part,
}

/// The outcome of one push.
pub(super) enum PushAnswer {
    /// So many messages were stored, the others had been before.
    Stored(usize),
    Full(String),
    Failed(redis::RedisError),
}

impl FromRedisValue for PushAnswer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        if let redis::Value::Int(stored) = value {
            return Ok(Self::Stored(usize::try_from(stored).unwrap_or_default()));
        }
        let (how, text): (String, String) = redis::from_redis_value(value)?;
        if how == "full" {
            return Ok(Self::Full(text));
        }
        // As the server would have sent it.
        match redis::parse_redis_value(
            format!("-{}\r\n", text.replace(['\r', '\n'], " ")).as_bytes(),
        ) {
            Ok(redis::Value::ServerError(error)) => Ok(Self::Failed(error.into())),
            Ok(_) => Err(format!("not an error: {text}").into()),
            Err(error) => Ok(Self::Failed(error)),
        }
    }
}

impl Call for Push<'_> {
    type Answer = Vec<PushAnswer>;

    fn script(&self) -> &'static Script {
        script!("common", "facts", "push")
    }

    fn size(&self) -> (usize, usize) {
        let bytes: usize = self.pushes.iter().map(Packed::size).sum();
        (
            32 + 8 * self.pushes.len(),
            512 + bytes + 128 * self.pushes.len(),
        )
    }

    fn arguments(&self, call: &mut Cmd) {
        // Neighbours of one kind share its description.
        let mut kinds: Vec<(Cmd, Range<usize>)> = Vec::new();
        let mut kind = Cmd::new();
        for (place, push) in self.pushes.iter().enumerate() {
            kind.clear();
            push.describe(&mut kind, Part::Kind);
            match kinds.last_mut() {
                Some((last, places)) if last.args_iter().eq(kind.args_iter()) => {
                    places.end = place + 1;
                }
                _ => kinds.push((std::mem::take(&mut kind), place..place + 1)),
            }
        }
        call.arg(kinds.len());
        for (kind, places) in kinds {
            for argument in kind.args_iter() {
                if let Arg::Simple(argument) = argument {
                    call.arg(argument);
                }
            }
            call.arg(places.len());
            for push in self.pushes.get(places).unwrap_or_default() {
                push.describe(call, Part::Values);
            }
        }
    }
}

/// Makes changes of records if the first one, a [`crate::CompareAndSet`], finds what it expects. Returns whether it does.
pub(super) struct CompareFirst<'a> {
    pub(super) facts: &'a [Fact],
}

impl Call for CompareFirst<'_> {
    type Answer = bool;

    fn script(&self) -> &'static Script {
        script!("common", "facts", "compare_and_set")
    }

    fn arguments(&self, call: &mut Cmd) {
        DescriptionWriter::whole(call).facts(self.facts);
    }
}

/// The first half of a reservation from a queue without lanes.
pub(super) struct Look<'a> {
    pub(super) queue: &'a QueueSpec,
    pub(super) consumer: &'a str,
    pub(super) max: usize,
}

impl Call for Look<'_> {
    type Answer = (Vec<Taken>, i64, usize, bool);

    fn script(&self) -> &'static Script {
        script!("common", "take", "look")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(self.consumer)
            .arg(count(self.max));
        call.arg(millis(self.queue.policy.lease)).arg(SUSPECT);
    }
}

/// A reservation from a queue with lanes.
pub(super) struct TakeFromLanes<'a> {
    pub(super) queue: &'a QueueSpec,
    pub(super) consumer: &'a str,
    pub(super) max: usize,
    pub(super) skip: &'a [String],
}

impl Call for TakeFromLanes<'_> {
    type Answer = (Vec<Taken>, i64, String);

    fn script(&self) -> &'static Script {
        script!("common", "take", "reserve")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(self.consumer)
            .arg(count(self.max));
        call.arg(millis(self.queue.policy.lease))
            .arg(SUSPECT)
            .arg(self.skip.len())
            .arg(self.skip);
    }
}

/// The end of reservations. Returns the places of those whose lease was lost.
pub(super) struct Settle<'a> {
    pub(super) consumer: &'a str,
    pub(super) ended: &'a [SettleOne<'a>],
}

/// The end of one reservation.
pub(super) struct SettleOne<'a> {
    pub(super) lease: &'a Lease,
    pub(super) how: SettleHow<'a>,
    pub(super) facts: &'a [Fact],
}

/// How a reservation ends.
pub(super) enum SettleHow<'a> {
    Done(Vec<PackedMessage<&'a Outgoing>>),
    Retry(Duration),
    Defer(Duration),
    Dead {
        id: String,
        letter: Vec<u8>,
        emit: Vec<PackedMessage<&'a Outgoing>>,
    },
    Release,
}

impl<'a> SettleOne<'a> {
    pub(super) fn new(Ending { lease, how, facts }: Ending<'a>) -> Result<Self, BusError> {
        let how = match how {
            Settlement::Done { emit } => SettleHow::Done(pack(emit)?),
            Settlement::Retry { after } => SettleHow::Retry(*after),
            Settlement::Defer { after } => SettleHow::Defer(*after),
            Settlement::Dead {
                id,
                reason,
                attempts,
                emit,
            } => SettleHow::Dead {
                id: id.to_string(),
                letter: letter(lease.queue, reason, *attempts, false)?,
                emit: pack(emit)?,
            },
            Settlement::Release => SettleHow::Release,
        };
        Ok(Self { lease, how, facts })
    }

    /// The end of one that held no message of ours.
    pub(super) fn unreadable(
        lease: &'a Lease,
        id: String,
        reason: &str,
        attempts: u32,
    ) -> Result<Self, BusError> {
        let letter = letter(lease.queue, reason, attempts, true)?;
        Ok(Self {
            lease,
            how: SettleHow::Dead {
                id,
                letter,
                emit: Vec::new(),
            },
            facts: &[],
        })
    }

    fn stream(&self) -> (&str, &str) {
        (
            self.lease.queue,
            self.lease.lane.as_deref().unwrap_or_default(),
        )
    }

    /// The word and the number that a run of several has in common, if it can be in one: it is done and has nothing to
    /// send, as most have.
    fn plain(&self) -> Option<(&'static str, u64)> {
        let first = self.lease.note_settlement();
        match &self.how {
            SettleHow::Done(emit) if emit.is_empty() && self.facts.is_empty() => {
                Some((if first { "sure" } else { "done" }, self.lease.delivery))
            }
            _ => None,
        }
    }
}

impl Call for Settle<'_> {
    type Answer = Vec<usize>;

    fn script(&self) -> &'static Script {
        script!("common", "facts", "settle")
    }

    fn arguments(&self, call: &mut Cmd) {
        let groups = self
            .ended
            .chunk_by(|one, next| one.stream() == next.stream());
        call.arg(self.consumer).arg(groups.clone().count());
        for group in groups {
            let entries = || group.iter().map(|one| one.lease.entry);
            let (queue, lane) = group.first().map(SettleOne::stream).unwrap_or_default();
            call.arg(queue).arg(lane);
            call.arg(Entry(entries().min().unwrap_or_default()));
            call.arg(Entry(entries().max().unwrap_or_default()));
            settlements(call, group);
        }
    }
}

/// Renews a lease.
pub(super) struct Extend<'a> {
    pub(super) lease: &'a Lease,
    pub(super) consumer: &'a str,
}

impl Call for Extend<'_> {
    type Answer = bool;

    fn script(&self) -> &'static Script {
        script!("common", "extend")
    }

    fn arguments(&self, call: &mut Cmd) {
        let Self { lease, consumer } = self;
        call.arg(lease.queue)
            .arg(lease.lane.as_deref().unwrap_or_default())
            .arg(Entry(lease.entry));
        call.arg(*consumer).arg(lease.delivery);
    }
}

/// Stores a value and removes it.
pub(super) struct ProbeWrite<'a> {
    pub(super) consumer: &'a str,
}

impl Call for ProbeWrite<'_> {
    type Answer = ();

    fn script(&self) -> &'static Script {
        script!("common", "probe")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.consumer);
    }
}

/// How a queue is doing.
pub(super) struct GetStatus<'a> {
    pub(super) queue: &'a QueueSpec,
}

impl Call for GetStatus<'_> {
    type Answer = (
        (usize, usize, usize, usize),
        (bool, i64, i64),
        (u64, u64, u64),
    );

    fn script(&self) -> &'static Script {
        operate!("operate/status")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name);
    }
}

/// Where a walk ended: the place, and what tells apart what is in the same place. The place is empty at the end.
pub(super) type Cursor = (String, String);

/// A message as the scripts that walk return it: where it is, since or until when (ms), attempts, envelope.
pub(super) type Found = (String, i64, u32, Vec<u8>);

/// Which messages a walk goes over.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Ready,
    Delayed,
}

/// What is done to the messages that are meant.
#[derive(Clone, Copy)]
pub(super) enum Do {
    Read,
    Drop,
    /// Delayed ones only.
    Requeue,
}

/// A step of a walk over the messages of a queue.
pub(super) struct Walk<'a> {
    pub(super) over: Over,
    pub(super) queue: &'a QueueSpec,
    pub(super) what: Do,
    pub(super) which: Which,
    pub(super) wanted: usize,
    pub(super) from: &'a Cursor,
}

impl Call for Walk<'_> {
    type Answer = (String, String, usize, Vec<Found>);

    fn script(&self) -> &'static Script {
        match self.over {
            Over::Ready => operate!("operate/ready"),
            Over::Delayed => operate!("operate/delayed"),
        }
    }

    fn arguments(&self, call: &mut Cmd) {
        let what = match self.what {
            Do::Read => "read",
            Do::Drop => "drop",
            Do::Requeue => "requeue",
        };
        let id: &[u8] = match &self.which {
            Which::All => &[],
            Which::One(id) => id.as_bytes(),
        };
        call.arg(self.queue.name)
            .arg(what)
            .arg(id)
            .arg(count(self.wanted))
            .arg(&self.from.0)
            .arg(&self.from.1);
    }
}

/// Stops or resumes reservations.
pub(super) struct SetPaused<'a> {
    pub(super) queue: &'a QueueSpec,
    pub(super) paused: bool,
}

impl Call for SetPaused<'_> {
    type Answer = ();

    fn script(&self) -> &'static Script {
        operate!("operate/pause")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(if self.paused { "1" } else { "0" });
    }
}

/// Dead letters, the newest first.
pub(super) struct ListLetters<'a> {
    pub(super) queue: &'a QueueSpec,
    pub(super) from: &'a Cursor,
}

impl Call for ListLetters<'_> {
    type Answer = (String, String, Vec<(String, i64, Vec<u8>)>);

    fn script(&self) -> &'static Script {
        operate!("operate/letters")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(&self.from.0)
            .arg(&self.from.1);
    }
}

/// One dead letter: when it died, its description, its envelope.
pub(super) struct GetLetter<'a> {
    pub(super) queue: &'a QueueSpec,
    pub(super) id: &'a str,
}

impl Call for GetLetter<'_> {
    type Answer = Option<(i64, Vec<u8>, Vec<u8>)>;

    fn script(&self) -> &'static Script {
        operate!("operate/letter")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name).arg(self.id);
    }
}

/// Takes dead letters out.
pub(super) struct TakeLetters<'a> {
    pub(super) queue: &'a QueueSpec,
    /// Whether they are put back into their queue.
    pub(super) requeue: bool,
    pub(super) ids: &'a [String],
}

impl Call for TakeLetters<'_> {
    type Answer = (usize, usize);

    fn script(&self) -> &'static Script {
        operate!("operate/take_letters")
    }

    fn arguments(&self, call: &mut Cmd) {
        let how = if self.requeue { "requeue" } else { "drop" };
        call.arg(self.queue.name)
            .arg(how)
            .arg(self.ids.len())
            .arg(self.ids);
    }
}

/// Whole milliseconds; a part of one is rounded up, so that a short wait is not none.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(LARGEST)
        .min(LARGEST)
}

/// A number of things; all that there are, when it is very large.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(LARGEST).min(LARGEST)
}

pub(super) fn pack<O: Borrow<Outgoing>>(
    messages: impl IntoIterator<Item = O>,
) -> Result<Vec<PackedMessage<O>>, BusError> {
    let pack = |outgoing: O| {
        let Outgoing {
            queue, envelope, ..
        } = outgoing.borrow();
        Ok(PackedMessage {
            bytes: encode(queue.name, envelope)?,
            outgoing,
        })
    };
    messages.into_iter().map(pack).collect()
}

impl<'a> DescriptionWriter<'a> {
    fn whole(call: &'a mut Cmd) -> Self {
        Self {
            call,
            part: Part::Whole,
        }
    }

    /// Writes what many descriptions have in common.
    fn common(&mut self, argument: impl ToSingleRedisArg) -> &mut Self {
        if self.part != Part::Values {
            self.call.arg(argument);
        }
        self
    }

    /// Writes what each description has for itself, and what is never empty; see `value()` in `common.lua`.
    fn value(&mut self, value: &[u8]) -> &mut Self {
        self.call.arg(match self.part {
            Part::Kind => &[],
            Part::Whole | Part::Values => value,
        });
        self
    }

    /// Writes what `check_messages()` in `common.lua` reads.
    fn messages<O: Borrow<Outgoing>>(&mut self, messages: &[PackedMessage<O>]) {
        self.common(messages.len());
        for PackedMessage { outgoing, bytes } in messages {
            let Outgoing {
                queue,
                envelope,
                after,
                key,
            } = outgoing.borrow();
            self.common(queue.name)
                .common(envelope.lane.as_deref().unwrap_or_default())
                .common(millis(*after));
            match key.as_deref() {
                Some(key) if !key.is_empty() => self
                    .value(key.as_bytes())
                    .common(millis(queue.policy.key_window).max(1)),
                _ => self.common("").common(0),
            };
            self.common(count(queue.policy.bound.unwrap_or(0)))
                .value(bytes);
        }
    }

    /// Writes what `check_facts()` in `facts.lua` reads.
    fn facts(&mut self, facts: &[Fact]) {
        let groups =
            facts.chunk_by(|one, next| one.ledger == next.ledger && one.record == next.record);
        self.common(groups.clone().count());
        for group in groups {
            let Some(Fact { ledger, record, .. }) = group.first() else {
                continue;
            };
            // Slots that are set, and tags, share a change with their neighbours.
            let shares = |one: &Fact, next: &Fact| {
                matches!(
                    (&one.change, &next.change),
                    (Change::Set { .. }, Change::Set { .. }) | (Change::Tag(_), Change::Tag(_))
                )
            };
            let changes = group.chunk_by(shares);
            self.common(ledger.name)
                .value(record.as_bytes())
                .common(millis(ledger.retention))
                .common(changes.clone().count());
            for changes in changes {
                let Some(Fact { change, .. }) = changes.first() else {
                    continue;
                };
                match change {
                    Change::Open { .. } => self.common("open").common(2),
                    Change::Set { .. } => self.common("set").common(2 * changes.len()),
                    Change::Add(_) => self.common("add").common(1),
                    Change::Swap { .. } => self.common("swap").common(3),
                    Change::Tag(_) => self.common("tag").common(changes.len()),
                    Change::Untag(_) => self.common("untag").common(1),
                    Change::Erase => self.common("erase").common(0),
                };
                for Fact { change, .. } in changes {
                    self.change(change);
                }
            }
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Add(entry) => self.value(entry),
            Change::Open { slot, value } | Change::Set { slot, value } => {
                self.common(Field(slot)).value(value)
            }
            // Either may be empty.
            Change::Swap { slot, from, to } => self
                .common(Field(slot))
                .common(bytes(from))
                .common(bytes(to)),
            Change::Tag(Cow::Borrowed(tag)) if !tag.is_empty() => self.common(*tag),
            Change::Tag(tag) | Change::Untag(tag) => self.value(tag.as_bytes()),
            Change::Erase => self,
        };
    }
}

/// The field of a slot.
struct Field<'a>(&'a str);

impl ToRedisArgs for Field<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(format_args!("={}", self.0));
    }
}

impl ToSingleRedisArg for Field<'_> {}

/// No value is empty, so that says that there is none.
fn bytes(value: &Option<Blob>) -> &[u8] {
    value.as_deref().unwrap_or_default()
}

/// An entry's name in its stream.
struct Entry((u64, u64));

impl ToRedisArgs for Entry {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let (millis, number) = self.0;
        out.write_arg_fmt(format_args!("{millis}-{number}"));
    }
}

impl ToSingleRedisArg for Entry {}

/// Appends the runs of one stream, as `settle.lua` reads them.
fn settlements(call: &mut Cmd, group: &[SettleOne<'_>]) {
    let group: Vec<_> = group.iter().map(|one| (one, one.plain())).collect();
    let runs = group.chunk_by(|(_, one), (_, next)| one.is_some() && one == next);
    call.arg(runs.clone().count());
    for run in runs {
        let Some((
            SettleOne {
                lease,
                how,
                facts: recorded,
            },
            plain,
        )) = run.first()
        else {
            continue;
        };
        let name = match how {
            SettleHow::Done(_) => plain.map_or("emit", |(name, _)| name),
            SettleHow::Retry(_) => "retry",
            SettleHow::Defer(_) => "defer",
            SettleHow::Dead { .. } => "dead",
            SettleHow::Release => "release",
        };
        call.arg(name).arg(lease.delivery).arg(run.len());
        for (one, _) in run {
            call.arg(Entry(one.lease.entry));
        }
        match how {
            SettleHow::Done(_) if plain.is_some() => continue,
            SettleHow::Done(emit) => DescriptionWriter::whole(call).messages(emit),
            SettleHow::Retry(after) | SettleHow::Defer(after) => {
                call.arg(millis(*after));
            }
            SettleHow::Dead { id, letter, emit } => {
                call.arg(id).arg(letter);
                DescriptionWriter::whole(call).messages(emit);
            }
            SettleHow::Release => continue,
        }
        DescriptionWriter::whole(call).facts(recorded);
    }
}

/// How a dead letter is described: why, after how many attempts, and whether it is no message of ours.
pub(super) type Description = (String, u32, bool);

fn letter(
    queue: &'static str,
    reason: &str,
    attempts: u32,
    unreadable: bool,
) -> Result<Vec<u8>, BusError> {
    encode(queue, &(reason, attempts, unreadable))
}

#[cfg(test)]
mod tests;
