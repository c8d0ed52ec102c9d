//! Tests of the guards, with a real Mercurial.

mod corpus;
mod differential;
mod hostile_input;
