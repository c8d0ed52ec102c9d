//! What can go wrong between a client and the fake, as a test wants it.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use tokio::{sync::oneshot, task::JoinError};

use super::{
    Call, FakePhabricator,
    server::{BACKLOG, bound, serve},
};

/// In the place of a method's name: whatever is called.
pub const EVERY_METHOD: &str = "*";

/// What happens to a call. It is not acted on, unless said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this HTTP status and a page for people.
    Status(u16),
    /// The connection ends in the middle of the answer.
    Cut,
    /// Refused with this `error_code`.
    Refuse(&'static str),
    /// Acted on, and answered as [`Fault::Status`]: the client cannot know that it was acted on.
    StatusAfter(u16),
    /// Acted on, and the answer is lost: the client cannot know that it was acted on.
    CutAfter,
    /// Acted on, and answered that much later on the clock.
    Delay(Duration),
}

/// An answer that is held back, though its call is acted on. It goes out when this is dropped.
#[derive(Debug)]
pub struct HeldAnswer {
    acted: Option<oneshot::Receiver<()>>,
    _release: oneshot::Sender<()>,
}

impl HeldAnswer {
    /// Returns once the call came and was acted on.
    pub async fn acted(&mut self) {
        if let Some(acted) = self.acted.take() {
            // Nothing is sent when the faults are mended first, and then nothing is held back.
            let _: Result<(), oneshot::error::RecvError> = acted.await;
        }
    }

    /// Lets the answer go out.
    pub fn release(self) {}
}

/// The calls that came, and what happens to those that will come.
#[derive(Default)]
pub(super) struct Traffic {
    calls: Vec<Call>,
    plans: Vec<Plan>,
}

struct Plan {
    method: String,
    /// How many calls it is for; `None` is all of them.
    left: Option<usize>,
    trouble: Planned,
}

enum Planned {
    Fault(Fault),
    /// For one call.
    Hold(Option<Hold>),
}

/// The fake's side of a [`HeldAnswer`].
pub(super) struct Hold {
    acted: oneshot::Sender<()>,
    released: oneshot::Receiver<()>,
}

impl Hold {
    pub(super) async fn wait(self) {
        // It does not matter whether the test still looks, and dropping its side is what releases.
        let _: Result<(), ()> = self.acted.send(());
        let _: Result<(), oneshot::error::RecvError> = self.released.await;
    }
}

/// What happens to one call.
pub(super) enum Trouble {
    Fault(Fault),
    Hold(Hold),
}

impl Traffic {
    /// Writes down a call. Returns what is to happen to it.
    pub(super) fn arrived(&mut self, call: Call) -> Option<Trouble> {
        let trouble = self.next(&call.method);
        self.calls.push(call);
        trouble
    }

    fn next(&mut self, method: &str) -> Option<Trouble> {
        let index = self
            .plans
            .iter()
            .position(|plan| plan.method == method || plan.method == EVERY_METHOD)?;
        let plan = &mut self.plans[index];
        let trouble = match &mut plan.trouble {
            Planned::Fault(fault) => Some(Trouble::Fault(fault.clone())),
            Planned::Hold(hold) => hold.take().map(Trouble::Hold),
        };
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                self.plans.remove(index);
            }
        }
        trouble
    }
}

/// Each of these is for calls of one method, or of [`EVERY_METHOD`]. What was wanted first comes first.
impl FakePhabricator {
    /// The next `times` calls of `method` end in `fault`.
    pub fn fail_next(&self, method: &str, times: usize, fault: &Fault) {
        if times > 0 {
            self.plan(method, Some(times), Planned::Fault(fault.clone()));
        }
    }

    /// Every call of `method` ends in `fault`, until [`FakePhabricator::mend`].
    pub fn fail_until_mended(&self, method: &str, fault: &Fault) {
        self.plan(method, None, Planned::Fault(fault.clone()));
    }

    /// The next call of `method` is acted on, and its answer is held back.
    pub fn hold_next(&self, method: &str) -> HeldAnswer {
        let ((acted, is_acted), (release, released)) = (oneshot::channel(), oneshot::channel());
        self.plan(
            method,
            Some(1),
            Planned::Hold(Some(Hold { acted, released })),
        );
        HeldAnswer {
            acted: Some(is_acted),
            _release: release,
        }
    }

    /// Nothing more goes wrong, but for answers that are held back already.
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
            serving.server = Some(serve(reserved.listen(BACKLOG)?, &self.inner));
        }
        Ok(())
    }

    /// The calls that were received until now, those that went wrong included.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.traffic.lock().calls.clone()
    }

    fn plan(&self, method: &str, left: Option<usize>, trouble: Planned) {
        self.inner.traffic.lock().plans.push(Plan {
            method: method.to_owned(),
            left,
            trouble,
        });
    }
}

/// A page for people.
pub(super) fn page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (
        status,
        Html("<!DOCTYPE html><title>Unhandled Exception</title>"),
    )
        .into_response()
}

/// An answer that breaks off.
pub(super) fn cut() -> Response {
    let cut = async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) };
    Body::from_stream(futures::stream::once(cut)).into_response()
}
