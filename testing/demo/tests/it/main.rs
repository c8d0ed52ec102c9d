//! The demo, as somebody starts it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod demo;
