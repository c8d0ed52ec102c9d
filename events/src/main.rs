//! Code review events.
fn main() {}
