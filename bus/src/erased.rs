//! Handlers without their message type: the one place where bytes become a message.

use std::marker::PhantomData;

use async_trait::async_trait;

use crate::{
    Context, Disposition, Handler, Message, Postponed, handler::Classify, transport::Envelope,
};
use runtime::error_chain;

/// Why a step failed, and how its message is settled.
pub(crate) struct Failure {
    pub(crate) disposition: Disposition,
    pub(crate) reason: String,
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            disposition: error.disposition(),
            reason: error_chain(&error),
        }
    }
}

/// A handler whose message type was erased: it decodes for itself.
#[async_trait]
pub(crate) trait AnyHandler: Send + Sync {
    async fn handle(&self, envelope: &Envelope, cx: &Context) -> Result<(), Failure>;
    async fn exhausted(
        &self,
        envelope: &Envelope,
        reason: &str,
        cx: &Context,
    ) -> Result<(), Failure>;
    async fn postponed(
        &self,
        envelope: &Envelope,
        postponed: &Postponed<'_>,
        cx: &Context,
    ) -> Result<(), Failure>;
    async fn close(&self);
}

struct Typed<M, H> {
    handler: H,
    carries: PhantomData<fn(M)>,
}

#[async_trait]
impl<M: Message, H: Handler<M>> AnyHandler for Typed<M, H> {
    async fn handle(&self, envelope: &Envelope, cx: &Context) -> Result<(), Failure> {
        let message = M::decode(envelope.version, &envelope.body).map_err(|error| Failure {
            disposition: Disposition::Dead,
            reason: error_chain(&error),
        })?;
        Ok(self.handler.handle(message, cx).await?)
    }

    async fn exhausted(
        &self,
        envelope: &Envelope,
        reason: &str,
        cx: &Context,
    ) -> Result<(), Failure> {
        match M::decode(envelope.version, &envelope.body) {
            Ok(message) => Ok(self.handler.exhausted(message, reason, cx).await?),
            // What cannot be read has nobody to speak for it; the dead letter keeps the bytes.
            Err(_) => Ok(()),
        }
    }

    async fn postponed(
        &self,
        envelope: &Envelope,
        postponed: &Postponed<'_>,
        cx: &Context,
    ) -> Result<(), Failure> {
        match M::decode(envelope.version, &envelope.body) {
            Ok(message) => Ok(self.handler.postponed(message, postponed, cx).await?),
            // It was read a moment ago, or its handler would not have asked for a delay.
            Err(_) => Ok(()),
        }
    }

    async fn close(&self) {
        self.handler.close().await;
    }
}

pub(crate) fn erase<M: Message>(handler: impl Handler<M>) -> Box<dyn AnyHandler> {
    Box::new(Typed {
        handler,
        carries: PhantomData,
    })
}
