//! Several handlers of one queue.

use async_trait::async_trait;
use bus::{Context, Handler, Message, Outcome, Queue};

use crate::app::App;

/// Several handlers of one queue, as configured: each handles the messages that it wants. What they send is one step, so
/// when one of them fails, or defers a message, it comes back for all, and what they send must bear keys.
pub struct FanOut<M, H>(Vec<(Wanted<M>, H)>);

/// Whether a message is for a handler.
pub type Wanted<M> = Box<dyn Fn(&M) -> bool + Send + Sync>;

/// The condition of a handler of all messages.
pub fn every<M>() -> Wanted<M> {
    Box::new(|_| true)
}

impl<M: Message + Clone, H: Handler<M>> FanOut<M, H> {
    /// Handles the messages of `queue`, if there are handlers.
    pub fn install(app: &mut App, queue: Queue<M>, handlers: Vec<(Wanted<M>, H)>) {
        if !handlers.is_empty() {
            app.consumer(queue, Self(handlers));
        }
    }
}

#[async_trait]
impl<M: Message + Clone, H: Handler<M>> Handler<M> for FanOut<M, H> {
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
