//! Tests that need more than one module.

mod hostile_input;
