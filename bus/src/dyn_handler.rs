//! Handlers without their message type. Only this module decodes messages, and it keeps the typed error of a handler until
//! the settlement is decided.

use std::{error::Error, fmt, marker::PhantomData};

use async_trait::async_trait;

use crate::{Cause, Context, Envelope, Handler, Message, Outcome, Requeue, Retry, Retryable};

/// The error of a handler, without its type.
#[derive(Debug)]
pub(crate) struct AnyError(Box<dyn Error + Send + Sync>);

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for AnyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The error of a handler and when to retry.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) retry: Retry,
    pub(crate) error: AnyError,
}

impl<E: Retryable> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            retry: error.retry(),
            error: AnyError(error.into()),
        }
    }
}

/// A handler that decodes its messages from envelopes.
#[async_trait]
pub(crate) trait DynHandler: Send + Sync {
    async fn handle(&self, envelope: &Envelope, cx: &Context) -> Result<Outcome, Failure>;
    async fn on_dead_letter(
        &self,
        envelope: &Envelope,
        cause: Cause<'_, AnyError>,
        cx: &Context,
    ) -> Result<(), Failure>;
    async fn on_requeue(
        &self,
        envelope: &Envelope,
        requeue: Requeue<'_, AnyError>,
        cx: &Context,
    ) -> Result<(), Failure>;
    async fn close(&self);
}

struct Typed<M, H> {
    handler: H,
    carries: PhantomData<fn(M)>,
}

impl<M: Message, H: Handler<M>> Typed<M, H> {
    fn decode(&self, envelope: &Envelope, cx: &Context) -> Result<M, Failure> {
        let message = M::decode(envelope.version, &envelope.body).map_err(|error| Failure {
            retry: Retry::Never,
            error: AnyError(error.into()),
        })?;
        cx.describe(&message);
        Ok(message)
    }

    fn own(error: &AnyError) -> Option<&H::Error> {
        error.0.downcast_ref()
    }
}

#[async_trait]
impl<M: Message, H: Handler<M>> DynHandler for Typed<M, H> {
    async fn handle(&self, envelope: &Envelope, cx: &Context) -> Result<Outcome, Failure> {
        let message = self.decode(envelope, cx)?;
        Ok(self.handler.handle(message, cx).await?)
    }

    async fn on_dead_letter(
        &self,
        envelope: &Envelope,
        cause: Cause<'_, AnyError>,
        cx: &Context,
    ) -> Result<(), Failure> {
        // A message that cannot be decoded has no handler; the dead letter keeps its bytes.
        let Ok(message) = self.decode(envelope, cx) else {
            return Ok(());
        };
        let cause = cause.map(Self::own);
        Ok(self.handler.on_dead_letter(message, cause, cx).await?)
    }

    async fn on_requeue(
        &self,
        envelope: &Envelope,
        requeue: Requeue<'_, AnyError>,
        cx: &Context,
    ) -> Result<(), Failure> {
        let (Ok(message), Some(requeue)) = (self.decode(envelope, cx), requeue.map(Self::own))
        else {
            return Ok(());
        };
        Ok(self.handler.on_requeue(message, requeue, cx).await?)
    }

    async fn close(&self) {
        self.handler.close().await;
    }
}

pub(crate) fn erase<M: Message>(handler: impl Handler<M>) -> Box<dyn DynHandler> {
    Box::new(Typed {
        handler,
        carries: PhantomData,
    })
}
