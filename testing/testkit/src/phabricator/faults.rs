//! What can go wrong between a client and the fake, as a test plans it.

use std::{ops::Deref, time::Duration};

use axum::response::{Html, IntoResponse, Response};
use tokio::sync::oneshot;

use super::{Call, FakePhabricator};
use crate::fake::{self, Fake};

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
#[derive(Debug)]
pub struct Hold {
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

/// The fault of one call, or its answer that is held back.
#[derive(Debug)]
pub enum Trouble {
    /// A fault.
    Fault(Fault),
    /// An answer that waits for the test.
    Hold(Hold),
}

/// Each fault is for calls of one method, or of [`EVERY_METHOD`].
impl FakePhabricator {
    /// The next `times` calls of `method` end in `fault`.
    pub fn fail_next(&self, method: &str, times: usize, fault: &Fault) {
        self.plan_fault(method, Some(times), fault);
    }

    /// Every call of `method` ends in `fault`, until [`Fake::mend`].
    pub fn fail_until_mended(&self, method: &str, fault: &Fault) {
        self.plan_fault(method, None, fault);
    }

    /// The next call of `method` is acted on, and its answer is held back.
    pub fn hold_next(&self, method: &str) -> HeldAnswer {
        let (acted, is_acted) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let mut hold = Some(Hold { acted, released });
        self.plan(method, Some(1), move || hold.take().map(Trouble::Hold));
        HeldAnswer {
            acted: Some(is_acted),
            _release: release,
        }
    }

    fn plan_fault(&self, method: &str, times: Option<usize>, fault: &Fault) {
        let fault = fault.clone();
        self.plan(method, times, move || Some(Trouble::Fault(fault.clone())));
    }
}

impl Deref for FakePhabricator {
    type Target = Fake<Call, Trouble>;

    fn deref(&self) -> &Self::Target {
        &self.fake
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
