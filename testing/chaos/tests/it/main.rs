//! Small campaigns, run as `./dev chaos` runs them: real workers, real servers, real signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod campaign;
mod poison;
mod world;
