//! Calls that change records.

use redis::{Cmd, FromRedisValue, Script};

use super::{Call, description::DescriptionWriter};
use crate::RecordUpdate;

/// Changes records, if the first change, a [`crate::CompareAndSet`], finds the expected value.
pub(in crate::redis) struct CompareFirst<'a> {
    pub(in crate::redis) updates: &'a [RecordUpdate],
}

/// The outcome of [`CompareFirst`].
pub(in crate::redis) enum CompareFirstAnswer {
    Made,
    /// The field has another value; nothing was changed.
    Differs,
    /// A key has a wrong type, and nothing was changed. Has the key and the remedy.
    Refused(String),
}

impl FromRedisValue for CompareFirstAnswer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        Ok(match value {
            redis::Value::Int(0) => Self::Differs,
            redis::Value::Int(_) => Self::Made,
            reason => Self::Refused(redis::from_redis_value(reason)?),
        })
    }
}

impl Call for CompareFirst<'_> {
    type Answer = CompareFirstAnswer;

    fn script(&self) -> &'static Script {
        script!("common", "updates", "fit", "compare_and_set")
    }

    fn arguments(&self, call: &mut Cmd) {
        DescriptionWriter::whole(call).updates(self.updates);
    }
}
