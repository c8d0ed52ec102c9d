//! Code review events: from a published patch to a push on Try and a link on its build.

mod config;

fn main() {}
