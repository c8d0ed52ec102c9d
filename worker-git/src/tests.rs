//! Tests of modules against Git itself.

mod differential;
mod git;
mod mutations;
mod trees;
