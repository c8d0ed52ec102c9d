//! What can go wrong between a client and the fake, as a test plans it.

use std::ops::Deref;

use super::FakeLando;
use crate::fake::{self, Fake};

/// The outcome of a call that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not acted on, and answered with this HTTP status and this body.
    Status(u16, &'static str),
    /// Not acted on, and the connection ends.
    Cut,
    /// Not acted on, and never answered.
    Silent,
    /// Acted on, and answered with this HTTP status and a page for people.
    StatusAfter(u16),
    /// Acted on, and the connection ends without the answer.
    CutAfter,
    /// Acted on, and never answered.
    SilentAfter,
}

pub(super) type Traffic = fake::Traffic<String, Fault>;

/// Each fault is for one call: `git2hg`, `hg2git`, `patches` or `landing_jobs`.
impl FakeLando {
    /// The next `times` calls of `call` end in `fault`.
    pub fn fail_next(&self, call: &str, times: usize, fault: &Fault) {
        self.plan_fault(call, Some(times), fault);
    }

    /// Every call of `call` ends in `fault`, until [`Fake::mend`].
    pub fn fail_until_mended(&self, call: &str, fault: &Fault) {
        self.plan_fault(call, None, fault);
    }

    fn plan_fault(&self, call: &str, times: Option<usize>, fault: &Fault) {
        let fault = fault.clone();
        self.plan(call, times, move || Some(fault.clone()));
    }
}

/// Calls have the names of their routes.
impl Deref for FakeLando {
    type Target = Fake<String, Fault>;

    fn deref(&self) -> &Self::Target {
        &self.fake
    }
}
