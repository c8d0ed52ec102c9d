//! What triggers hooks, and the handler that does, on a bus.

mod builds;
mod pulse;
mod runner;
mod world;
