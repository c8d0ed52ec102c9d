//! The Lua scripts, and their calls.
//!
//! Each script has one type, whose fields are its arguments, so that no caller can leave one out. The scripts check them
//! again before their first write.

/// A script of these files, in this order.
macro_rules! script {
    ($($name:literal),+) => {{
        static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| {
            redis::Script::new(concat!($(include_str!(concat!($name, ".lua"))),+))
        });
        &SCRIPT
    }};
}

/// A script of the operator's operations.
macro_rules! admin {
    ($name:literal) => {
        script!("common", "queue_admin/common", $name)
    };
}

mod description;
mod probe;
mod push;
mod queue_admin;
mod record;
mod reserve;
mod settle;

use std::{fmt, time::Duration};

use redis::{Cmd, FromRedisValue, RedisWrite, Script, ToRedisArgs, ToSingleRedisArg};

pub(super) use self::{
    description::pack,
    probe::ProbeWrite,
    push::{Packed, Push, PushAnswer},
    queue_admin::{
        Cursor, Do, Found, GetLetter, GetStatus, ListLetters, Over, SetPaused, TakeLetters, Walk,
    },
    record::{CompareFirst, CompareFirstAnswer},
    reserve::{Extend, Poll, ReserveFromPartitions},
    settle::{Description, Settle, SettleOne},
};

/// The consumer group of each stream; `common.lua` has the same name.
pub(super) const GROUP: &str = "workers";

/// The largest number that a script accepts.
const LARGEST: u64 = 999_999_999_999_999;

/// A call of a script.
pub(super) trait Call {
    /// The type of the script's reply.
    type Answer: FromRedisValue;

    fn script(&self) -> &'static Script;

    /// Appends all arguments.
    fn arguments(&self, call: &mut Cmd);

    /// The approximate number of arguments, and their approximate size in bytes.
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

/// Whole milliseconds, rounded up, so that a short wait does not become none.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(LARGEST)
        .min(LARGEST)
}

/// A count as an argument, at most the largest one that a script accepts.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(LARGEST).min(LARGEST)
}

/// The id of a stream entry.
struct EntryName((u64, u64));

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (millis, number) = self.0;
        write!(f, "{millis}-{number}")
    }
}

impl ToRedisArgs for EntryName {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

impl ToSingleRedisArg for EntryName {}

#[cfg(test)]
mod tests;
