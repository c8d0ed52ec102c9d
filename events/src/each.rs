//! Several handlers of one queue.

use async_trait::async_trait;
use bus::{Context, Handler, Message, Outcome};

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
