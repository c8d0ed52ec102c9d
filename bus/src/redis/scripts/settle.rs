//! Ending reservations.

use std::time::Duration;

use redis::{Cmd, Script};

use super::{
    Call, Entry,
    description::{DescriptionWriter, PackedMessage, pack},
    millis,
};
use crate::{BusError, Ending, Fact, Lease, Outgoing, Settlement, queue::encode};

/// The end of reservations. Returns the places of those whose lease was lost.
pub(in crate::redis) struct Settle<'a> {
    pub(in crate::redis) consumer: &'a str,
    pub(in crate::redis) ended: &'a [SettleOne<'a>],
}

/// The end of one reservation.
pub(in crate::redis) struct SettleOne<'a> {
    pub(in crate::redis) lease: &'a Lease,
    pub(in crate::redis) how: SettleHow<'a>,
    pub(in crate::redis) facts: &'a [Fact],
}

/// How a reservation ends.
pub(in crate::redis) enum SettleHow<'a> {
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
    pub(in crate::redis) fn new(
        Ending { lease, how, facts }: Ending<'a>,
    ) -> Result<Self, BusError> {
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
    pub(in crate::redis) fn unreadable(
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
pub(in crate::redis) type Description = (String, u32, bool);

fn letter(
    queue: &'static str,
    reason: &str,
    attempts: u32,
    unreadable: bool,
) -> Result<Vec<u8>, BusError> {
    encode(queue, &(reason, attempts, unreadable))
}
