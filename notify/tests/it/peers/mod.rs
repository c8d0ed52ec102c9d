//! What the channels speak to: real servers, as child processes.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails, and says why")]

pub(crate) mod irc_client;
pub(crate) mod ngircd;
