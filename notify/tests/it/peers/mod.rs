//! What the channels talk to.

pub(crate) mod smtp;
