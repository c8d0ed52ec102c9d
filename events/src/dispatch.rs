//! Hands the end of a push to everyone whom it concerns.

use async_trait::async_trait;
use build::{Applied, Report, Update};
use bus::{BusError, Context, Handler, Message, Outcome, Queue};

/// Reads `mercurial:applied`. The author's answer is sent first.
pub struct Dispatch {
    /// Where words on build targets go.
    pub results: Queue<Update>,
    /// Where pushes go whose tests may be selected.
    pub pushes: Option<Queue<Applied>>,
}

#[async_trait]
impl Handler<Applied> for Dispatch {
    type Error = BusError;

    async fn handle(&self, applied: Applied, cx: &Context) -> Result<Outcome, BusError> {
        if let (Some(pushes), Report::Pushed(_)) = (&self.pushes, &applied.report) {
            cx.send(pushes, &applied)?;
        }
        let Applied { request, report } = applied;
        cx.send(&self.results, &Update { request, report })?;
        Ok(Outcome::Done)
    }
}

/// Several handlers of one queue, as configured: each has a look at each message. What they send is one step, so a
/// message that one of them fails at, or defers, comes back for all, and what they send must bear keys.
pub struct Each<M, H>(pub Vec<(Wanted<M>, H)>);

/// Whether a message is for a handler.
pub type Wanted<M> = Box<dyn Fn(&M) -> bool + Send + Sync>;

#[async_trait]
impl<M: Message + Clone, H: Handler<M>> Handler<M> for Each<M, H> {
    type Error = H::Error;

    async fn handle(&self, message: M, cx: &Context) -> Result<Outcome, H::Error> {
        for (_, handler) in self.0.iter().filter(|(wanted, _)| wanted(&message)) {
            let outcome = handler.handle(message.clone(), cx).await?;
            if outcome != Outcome::Done {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }
}
