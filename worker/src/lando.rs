//! Lando as a destination: a stack is submitted as patches, and a job there pushes it.
//!
//! # Requests
//!
//! * `POST <url>/api/try/patches`, with a token, makes a job and returns its number.
//! * `GET <url>/landing_jobs/<number>/`, without one, returns its state, its user, and its head when it has landed. It does not
//!   return its patches.
//!
//! # One job for each build
//!
//! A submission has no key by which Lando would refuse it the second time, and its answer can be lost. The head of
//! `lando/records.rs` says how its job is found then.

mod client;
mod jobs;
mod mail;
pub(crate) mod records;

pub use client::probe;
pub(crate) use client::{Job, Lando, MOST_BYTES, Refusal, Status, SubmitError, away, barred};
pub(crate) use jobs::Found;
