//! What the channels talk to.

pub(crate) mod logs;
pub(crate) mod moto;
pub(crate) mod smtp;
