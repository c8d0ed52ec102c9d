//! A Lando for tests: it holds jobs, commits in both version controls, users and repositories, and serves them over HTTP as
//! mozilla-conduit/lando does (`try_api/api.py`, `api/views.py` and `landing_jobs.py` there). A job changes when a test
//! says so.

mod faults;
mod mail;
mod server;
mod state;

pub use faults::Fault;
pub use mail::MailedPatch;
pub use server::FakeLando;
pub use state::{JobStatus, LandingJob};
