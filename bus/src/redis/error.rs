//! What a failure of the client means for the bus.

use super::endpoint::says;
use crate::BusError;

impl BusError {
    pub(in crate::redis) fn redis(doing: &'static str) -> impl Fn(redis::RedisError) -> Self {
        move |source| match Box::new(source) {
            source if says(&source, "OOM") => Self::Memory { doing, source },
            source => Self::Redis { doing, source },
        }
    }
}
