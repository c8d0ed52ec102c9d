//! What can go wrong between a client and the fake, as a test wants it.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header::RETRY_AFTER},
    response::{Html, IntoResponse, Response},
};
use tokio::task::JoinError;

use super::{
    FakeTaskcluster,
    request::code,
    server::{BACKLOG, bound, serve},
};

/// In the place of a call's name: whatever is called.
pub const EVERY_CALL: &str = "*";

/// What happens to a call. It is not acted on, unless said so.
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
        /// What `Retry-After` says, in whole seconds; none leaves the header out.
        retry_after: Option<Duration>,
    },
}

/// The calls that came, and what happens to those that will come.
#[derive(Default)]
pub(super) struct Traffic {
    calls: Vec<String>,
    plans: Vec<Plan>,
}

struct Plan {
    call: String,
    /// How many calls it is for; `None` is all of them.
    left: Option<usize>,
    fault: Fault,
}

impl Traffic {
    /// Writes down a call. Returns what is to happen to it.
    pub(super) fn arrived(&mut self, call: &str) -> Option<Fault> {
        self.calls.push(call.to_owned());
        let index = self
            .plans
            .iter()
            .position(|plan| plan.call == call || plan.call == EVERY_CALL)?;
        let plan = &mut self.plans[index];
        let fault = plan.fault.clone();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                self.plans.remove(index);
            }
        }
        Some(fault)
    }
}

/// Each of these is for one call, such as `queue.task`, for [`EVERY_CALL`], or for `store`, where artifacts are. What
/// was wanted first comes first.
impl FakeTaskcluster {
    /// The next `times` calls of `call` end in `fault`.
    pub fn fail_next(&self, call: &str, times: usize, fault: &Fault) {
        if times > 0 {
            self.plan(call, Some(times), fault);
        }
    }

    /// Every call of `call` ends in `fault`, until [`FakeTaskcluster::mend`].
    pub fn fail_until_mended(&self, call: &str, fault: &Fault) {
        self.plan(call, None, fault);
    }

    /// Nothing more goes wrong.
    pub fn mend(&self) {
        self.inner.traffic.lock().plans.clear();
    }

    /// Goes down, keeping all that it knows: connections are refused from now on, and those that are open end with the
    /// call that they are in.
    pub async fn go_down(&self) -> io::Result<()> {
        let Some(server) = self.serving.lock().server.take() else {
            return Ok(());
        };
        server.abort();
        // It always ends as aborted; then its socket is closed.
        let _: Result<io::Result<()>, JoinError> = server.await;
        self.serving.lock().reserved = Some(bound(self.address)?);
        Ok(())
    }

    /// Comes up again, at the same address.
    pub fn come_up(&self) -> io::Result<()> {
        let mut serving = self.serving.lock();
        if let Some(reserved) = serving.reserved.take() {
            serving.server = Some(serve(reserved.listen(BACKLOG)?, &self.inner, false));
        }
        Ok(())
    }

    /// The calls that were received until now, such as `queue.task`, those that went wrong included.
    pub fn calls(&self) -> Vec<String> {
        self.inner.traffic.lock().calls.clone()
    }

    fn plan(&self, call: &str, left: Option<usize>, fault: &Fault) {
        self.inner.traffic.lock().plans.push(Plan {
            call: call.to_owned(),
            left,
            fault: fault.clone(),
        });
    }
}

impl Fault {
    /// What is answered; what is acted on is answered so afterwards.
    pub(super) fn answer(&self) -> Response {
        match self {
            Self::Status(status) => (code(*status), page()).into_response(),
            Self::Cut | Self::CutAfter => {
                let cut =
                    async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) };
                Body::from_stream(futures::stream::once(cut)).into_response()
            }
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
