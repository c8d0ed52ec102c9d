//! The demo, as somebody starts it.

mod demo;
