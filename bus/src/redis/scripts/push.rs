//! Calls that store messages.

use std::ops::Range;

use redis::{Arg, Cmd, FromRedisValue, Script};

use super::{
    Call,
    description::{DescriptionWriter, PackedMessage, Part},
};
use crate::{Outgoing, RecordUpdate};

/// Stores messages with their record updates, each push in a step of its own.
pub(in crate::redis) struct Push<'a> {
    pub(in crate::redis) pushes: &'a [Packed],
}

/// The messages and updates of one push.
pub(in crate::redis) struct Packed {
    pub(in crate::redis) messages: Vec<PackedMessage<Outgoing>>,
    pub(in crate::redis) updates: Vec<RecordUpdate>,
}

impl Packed {
    /// The approximate size in bytes of its messages and values.
    pub(in crate::redis) fn size(&self) -> usize {
        let messages: usize = self
            .messages
            .iter()
            .map(|message| message.bytes.len())
            .sum();
        let updates: usize = self.updates.iter().map(|update| update.change.size()).sum();
        messages + updates
    }

    fn describe(&self, call: &mut Cmd, part: Part) {
        let mut to = DescriptionWriter { call, part };
        to.messages(&self.messages);
        to.updates(&self.updates);
    }
}

/// The outcome of one push.
pub(in crate::redis) enum PushAnswer {
    /// The number of messages that were stored; the others were duplicates.
    Stored(usize),
    /// A queue is at its bound, in bytes or in messages.
    Full {
        queue: String,
        in_bytes: bool,
    },
    /// A key has a wrong type, and nothing of the push was written. Has the key and the remedy.
    Refused(String),
    Failed(redis::RedisError),
}

impl FromRedisValue for PushAnswer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        if let redis::Value::Int(stored) = value {
            return Ok(Self::Stored(usize::try_from(stored).unwrap_or_default()));
        }
        let (how, text): (String, String) = redis::from_redis_value(value)?;
        if let Some(of) = how.strip_prefix("full ") {
            return Ok(Self::Full {
                queue: text,
                in_bytes: of == "bytes",
            });
        }
        if how == "refused" {
            return Ok(Self::Refused(text));
        }
        // Parsed from the form in which the server would have sent it.
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
        script!("common", "updates", "fit", "push")
    }

    fn size(&self) -> (usize, usize) {
        let bytes: usize = self.pushes.iter().map(Packed::size).sum();
        (
            32 + 8 * self.pushes.len(),
            512 + bytes + 128 * self.pushes.len(),
        )
    }

    fn arguments(&self, call: &mut Cmd) {
        // Neighbouring pushes of one kind share its description.
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
