//! Calls that settle deliveries.

use redis::{Cmd, Script};
use serde::{Serialize, Serializer};

use super::{
    Call, EntryName,
    description::{DescriptionWriter, PackedMessage, pack},
    millis,
};
use crate::{BusError, Lease, Outgoing, RecordUpdate, SettleRequest, Settlement, encoding::encode};

/// Settles deliveries. Each settlement is written whole or not at all.
pub(in crate::redis) struct Settle<'a> {
    /// The encoded [`Request`].
    request: Vec<u8>,
    settlements: &'a [SettleOne<'a>],
}

/// The request to `settle.lua`.
#[derive(Serialize)]
struct Request<'a> {
    consumer: &'a str,
    streams: Vec<Group<'a>>,
}

/// Neighbouring settlements of one stream.
#[derive(Serialize)]
struct Group<'a> {
    queue: &'a str,
    partition: &'a str,
    lowest: EntryName,
    highest: EntryName,
    settlements: Vec<&'a Item<'a>>,
}

/// One settlement without its effects.
#[derive(Serialize)]
struct Item<'a> {
    entry: EntryName,
    delivery: u64,
    how: How,
    /// In ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letter: Option<Letter<'a>>,
    /// Whether other arguments describe its messages and updates.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    effects: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Done,
    Retry,
    Defer,
    Dead,
    Release,
}

/// A dead letter.
#[derive(Serialize)]
struct Letter<'a> {
    id: String,
    reason: &'a str,
    attempts: u32,
    unreadable: bool,
}

/// The description of a dead letter: its reason, its attempts, and whether its bytes are not an envelope.
pub(in crate::redis) type Description = (String, u32, bool);

/// One settlement with its messages and updates.
pub(in crate::redis) struct SettleOne<'a> {
    lease: &'a Lease,
    item: Item<'a>,
    emit: Vec<PackedMessage<&'a Outgoing>>,
    updates: &'a [RecordUpdate],
}

impl<'a> SettleOne<'a> {
    pub(in crate::redis) fn new(
        SettleRequest {
            lease,
            how,
            updates,
        }: SettleRequest<'a>,
    ) -> Result<Self, BusError> {
        let mut one = Self::bare(lease, How::Done);
        // A release records nothing.
        one.updates = updates;
        match how {
            Settlement::Done { emit } => one.emit = pack(emit)?,
            Settlement::Retry { after } => {
                one.item.how = How::Retry;
                one.item.after = Some(millis(*after));
            }
            Settlement::Defer { after } => {
                one.item.how = How::Defer;
                one.item.after = Some(millis(*after));
            }
            Settlement::Dead {
                id,
                reason,
                attempts,
                emit,
            } => {
                one.item.how = How::Dead;
                one.item.letter = Some(Letter {
                    id: id.to_string(),
                    reason,
                    attempts: *attempts,
                    unreadable: false,
                });
                one.emit = pack(emit)?;
            }
            Settlement::Release => one = Self::bare(lease, How::Release),
        }
        one.item.effects = !one.emit.is_empty() || !one.updates.is_empty();
        Ok(one)
    }

    /// Keeps an entry that is not an envelope as a dead letter.
    pub(in crate::redis) fn unreadable(
        lease: &'a Lease,
        id: String,
        reason: &'a str,
        attempts: u32,
    ) -> Self {
        let mut one = Self::bare(lease, How::Dead);
        one.item.letter = Some(Letter {
            id,
            reason,
            attempts,
            unreadable: true,
        });
        one
    }

    fn bare(lease: &'a Lease, how: How) -> Self {
        Self {
            lease,
            item: Item {
                entry: EntryName(lease.entry),
                delivery: lease.delivery,
                how,
                after: None,
                letter: None,
                effects: false,
            },
            emit: Vec::new(),
            updates: &[],
        }
    }

    fn stream(&self) -> (&'a str, &'a str) {
        let partition = self.lease.partition.as_deref().unwrap_or_default();
        (self.lease.queue, partition)
    }
}

impl<'a> Settle<'a> {
    pub(in crate::redis) fn new(
        consumer: &str,
        settlements: &'a [SettleOne<'a>],
    ) -> Result<Self, BusError> {
        let neighbours = settlements.chunk_by(|one, next| one.stream() == next.stream());
        let streams = neighbours.map(|group| {
            let (queue, partition) = group.first().map(SettleOne::stream).unwrap_or_default();
            let entries = group.iter().map(|one| one.lease.entry);
            Group {
                queue,
                partition,
                lowest: EntryName(entries.clone().min().unwrap_or_default()),
                highest: EntryName(entries.max().unwrap_or_default()),
                settlements: group.iter().map(|one| &one.item).collect(),
            }
        });
        let request = Request {
            consumer,
            streams: streams.collect(),
        };
        let queue = settlements.first().map_or("", |one| one.lease.queue);
        Ok(Self {
            request: encode(queue, &request)?,
            settlements,
        })
    }
}

impl Call for Settle<'_> {
    /// The places of settlements whose lease was lost, and those that Redis refused with the reasons.
    type Answer = (Vec<usize>, Vec<(usize, String)>);

    fn script(&self) -> &'static Script {
        script!("common", "updates", "fit", "settle")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(&self.request);
        for one in self.settlements.iter().filter(|one| one.item.effects) {
            let mut effects = DescriptionWriter::whole(call);
            effects.messages(&one.emit);
            effects.updates(one.updates);
        }
    }
}

impl Serialize for EntryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
