//! What can go wrong between a client and the fake, as a test plans it.

use std::{io, time::Duration};

use axum::response::{Html, IntoResponse, Response};
use tokio::sync::oneshot;

use super::{Call, FakePhabricator};
use crate::fake;

/// In the place of a method's name: every method.
pub const EVERY_METHOD: &str = fake::EVERY_CALL;

/// The outcome of a call that fails. The call is not acted on, unless said so.
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
    /// Returns once the call was received and acted on.
    pub async fn acted(&mut self) {
        if let Some(acted) = self.acted.take() {
            // Nothing is sent when the faults are mended first, and then nothing is held back.
            let _: Result<(), oneshot::error::RecvError> = acted.await;
        }
    }

    /// Lets the answer go out.
    pub fn release(self) {}
}

/// The calls that were received, and the faults of those that will be.
pub(super) type Traffic = fake::Traffic<Call, Trouble>;

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

/// Each fault is for calls of one method, or of [`EVERY_METHOD`].
impl FakePhabricator {
    /// The next `times` calls of `method` end in `fault`.
    pub fn fail_next(&self, method: &str, times: usize, fault: &Fault) {
        self.plan(method, Some(times), fault);
    }

    /// Every call of `method` ends in `fault`, until [`FakePhabricator::mend`].
    pub fn fail_until_mended(&self, method: &str, fault: &Fault) {
        self.plan(method, None, fault);
    }

    /// The next call of `method` is acted on, and its answer is held back.
    pub fn hold_next(&self, method: &str) -> HeldAnswer {
        let (acted, is_acted) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let mut hold = Some(Hold { acted, released });
        self.inner
            .traffic
            .lock()
            .plan(method, Some(1), move || hold.take().map(Trouble::Hold));
        HeldAnswer {
            acted: Some(is_acted),
            _release: release,
        }
    }

    /// Nothing more goes wrong, but for answers that are held back already.
    pub fn mend(&self) {
        self.inner.traffic.lock().mend();
    }

    /// Goes down, keeping all that it knows: connections are refused from now on, and those that are open end with the
    /// call that they are in.
    pub async fn go_down(&self) -> io::Result<()> {
        self.server.go_down().await
    }

    /// Comes up again, at the same address.
    pub fn come_up(&self) -> io::Result<()> {
        self.server.come_up()
    }

    /// The calls that were received until now, those that went wrong included.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.traffic.lock().calls()
    }

    fn plan(&self, method: &str, times: Option<usize>, fault: &Fault) {
        let fault = fault.clone();
        self.inner
            .traffic
            .lock()
            .plan(method, times, move || Some(Trouble::Fault(fault.clone())));
    }
}

/// A page for people.
pub(super) fn page(status: u16) -> Response {
    (
        fake::status(status),
        Html("<!DOCTYPE html><title>Unhandled Exception</title>"),
    )
        .into_response()
}
