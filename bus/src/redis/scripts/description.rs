//! Descriptions: messages and changes of records as arguments, in the form that `common.lua` and `updates.lua` read.

use std::borrow::{Borrow, Cow};

use redis::{Cmd, RedisWrite, ToRedisArgs, ToSingleRedisArg};

use super::{count, millis};
use crate::{Blob, BusError, Outgoing, RecordUpdate, encoding::encode, records::Change};

/// A message and its encoded envelope.
pub(in crate::redis) struct PackedMessage<O> {
    pub(in crate::redis) outgoing: O,
    pub(in crate::redis) bytes: Vec<u8>,
}

/// The part of a description that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// The part that many descriptions have in common: all of it, with empty values.
    Kind,
    /// The values alone.
    Values,
}

/// Writes a description of messages or of changes into a call.
pub(super) struct DescriptionWriter<'a> {
    pub(super) call: &'a mut Cmd,
    pub(super) part: Part,
}

pub(in crate::redis) fn pack<O: Borrow<Outgoing>>(
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
    pub(super) fn whole(call: &'a mut Cmd) -> Self {
        Self {
            call,
            part: Part::Whole,
        }
    }

    /// Writes an argument that many descriptions have in common.
    fn common(&mut self, argument: impl ToSingleRedisArg) -> &mut Self {
        if self.part != Part::Values {
            self.call.arg(argument);
        }
        self
    }

    /// Writes a value: an argument that differs between descriptions and is never empty; see `value()` in `common.lua`.
    fn value(&mut self, value: &[u8]) -> &mut Self {
        self.call.arg(match self.part {
            Part::Kind => &[],
            Part::Whole | Part::Values => value,
        });
        self
    }

    /// Writes what `check_messages()` in `common.lua` reads.
    pub(super) fn messages<O: Borrow<Outgoing>>(&mut self, messages: &[PackedMessage<O>]) {
        self.common(messages.len());
        for PackedMessage { outgoing, bytes } in messages {
            let Outgoing {
                queue,
                envelope,
                after,
                key,
            } = outgoing.borrow();
            self.common(queue.name)
                .common(envelope.partition.as_deref().unwrap_or_default())
                .common(millis(*after));
            match key.as_deref() {
                Some(key) if !key.is_empty() => self
                    .value(key.as_bytes())
                    .common(millis(queue.policy.dedup_window).max(1)),
                _ => self.common("").common(0),
            };
            self.common(count(queue.policy.max_depth.unwrap_or(0)))
                .common(queue.policy.max_bytes.unwrap_or(0))
                .value(bytes);
        }
    }

    /// Writes what `check_updates()` in `updates.lua` reads.
    pub(super) fn updates(&mut self, updates: &[RecordUpdate]) {
        let groups =
            updates.chunk_by(|one, next| one.store == next.store && one.record == next.record);
        self.common(groups.clone().count());
        for group in groups {
            let Some(RecordUpdate { store, record, .. }) = group.first() else {
                continue;
            };
            // Neighbours that set fields, or add to indexes, share a change.
            let shares = |one: &RecordUpdate, next: &RecordUpdate| {
                matches!(
                    (&one.change, &next.change),
                    (Change::Set { .. }, Change::Set { .. }) | (Change::Index(_), Change::Index(_))
                )
            };
            let changes = group.chunk_by(shares);
            self.common(store.name)
                .value(record.as_bytes())
                .common(millis(store.retention))
                .common(changes.clone().count());
            for changes in changes {
                let Some(RecordUpdate { change, .. }) = changes.first() else {
                    continue;
                };
                match change {
                    Change::Open { .. } => self.common("open").common(2),
                    Change::Set { .. } => self.common("set").common(2 * changes.len()),
                    Change::Add(_) => self.common("add").common(1),
                    Change::Swap { .. } => self.common("swap").common(3),
                    Change::Index(_) => self.common("index").common(changes.len()),
                    Change::Unindex(_) => self.common("unindex").common(1),
                    Change::Erase => self.common("erase").common(0),
                };
                for RecordUpdate { change, .. } in changes {
                    self.change(change);
                }
            }
        }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Add(event) => self.value(event),
            Change::Open { field, value } | Change::Set { field, value } => {
                self.common(Field(field)).value(value)
            }
            // Both values may be empty.
            Change::Swap { field, from, to } => self
                .common(Field(field))
                .common(bytes(from))
                .common(bytes(to)),
            Change::Index(Cow::Borrowed(name)) if !name.is_empty() => self.common(*name),
            Change::Index(name) | Change::Unindex(name) => self.value(name.as_bytes()),
            Change::Erase => self,
        };
    }
}

/// The name of a field in the hash of its record.
struct Field<'a>(&'a str);

impl ToRedisArgs for Field<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(format_args!("={}", self.0));
    }
}

impl ToSingleRedisArg for Field<'_> {}

/// The bytes of a value; none for an empty field, since no encoded value is empty.
fn bytes(value: &Option<Blob>) -> &[u8] {
    value.as_deref().unwrap_or_default()
}
