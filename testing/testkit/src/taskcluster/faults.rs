//! What can go wrong between a client and the fake, as a test plans it.

use std::{ops::Deref, time::Duration};

use axum::{
    http::{StatusCode, header::RETRY_AFTER},
    response::{Html, IntoResponse, Response},
};

use super::FakeTaskcluster;
use crate::fake::{self, Fake};

/// In the place of a call's name: every call.
pub const EVERY_CALL: &str = fake::EVERY_CALL;

/// The outcome of a call that fails. The call is not acted on, unless said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status and a page for people.
    Status(u16),
    /// The connection ends in the middle of the answer.
    Cut,
    /// Acted on, and the answer is lost: the client cannot know that it was acted on.
    CutAfter,
    /// Answered with 429.
    TooManyRequests {
        /// The value of `Retry-After`, in whole seconds; none leaves the header out.
        retry_after: Option<Duration>,
    },
}

/// The names of the calls that were received, and the faults of those that will be.
pub(super) type Traffic = fake::Traffic<String, Fault>;

/// Each fault is for one call, such as `queue.task`, for [`EVERY_CALL`], or for `store`, where artifacts are.
impl FakeTaskcluster {
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

/// Calls have names such as `queue.task`.
impl Deref for FakeTaskcluster {
    type Target = Fake<String, Fault>;

    fn deref(&self) -> &Self::Target {
        &self.fake
    }
}

impl Fault {
    /// What is answered; what is acted on is answered so afterwards.
    pub(super) fn answer(&self) -> Response {
        match self {
            Self::Status(status) => (fake::status(*status), page()).into_response(),
            Self::Cut | Self::CutAfter => fake::cut(),
            Self::TooManyRequests { retry_after: None } => {
                (StatusCode::TOO_MANY_REQUESTS, page()).into_response()
            }
            Self::TooManyRequests {
                retry_after: Some(wait),
            } => (
                StatusCode::TOO_MANY_REQUESTS,
                [(RETRY_AFTER, wait.as_secs().to_string())],
                page(),
            )
                .into_response(),
        }
    }
}

/// A page for people, as what stands before the services shows it.
pub(super) fn page() -> Html<&'static str> {
    Html("<!DOCTYPE html><title>Error: Server Error</title>")
}
