//! Errors of the client as errors of the bus.

use super::endpoint::has_code;
use crate::BusError;

impl BusError {
    pub(in crate::redis) fn redis(doing: &'static str) -> impl Fn(redis::RedisError) -> Self {
        move |source| match Box::new(source) {
            source if has_code(&source, "OOM") => Self::Memory { doing, source },
            source => Self::Redis { doing, source },
        }
    }
}
