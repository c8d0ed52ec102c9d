//! Places of hunks that `git apply` chooses, one by one. `tests/differential.rs` compares random ones with Git itself.
