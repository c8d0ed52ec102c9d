//! Tests of modules against Git itself.

mod differential;
mod git;
mod mutations;
mod recorded;
mod reports;
mod trees;
