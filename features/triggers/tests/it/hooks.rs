//! The sources of triggers, and the runner.

mod builds;
mod pulse;
mod runner;
mod world;
