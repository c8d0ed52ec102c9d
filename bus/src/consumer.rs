//! The loop that runs a handler over a queue.
