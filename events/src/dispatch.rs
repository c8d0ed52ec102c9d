//! Hands the end of a push to everyone whom it concerns.

use async_trait::async_trait;
use bus::{BusError, Context, Handler, Queue};
use phabricator::model::{Applied, Update};

/// Reads `mercurial:applied`. The author is told first of all; test selection will be the other reader.
pub struct Dispatch {
    /// Where words on build targets go.
    pub results: Queue<Update>,
}

#[async_trait]
impl Handler<Applied> for Dispatch {
    type Error = BusError;

    async fn handle(&self, Applied { request, report }: Applied, cx: &Context) -> Result<(), BusError> {
        cx.send(&self.results, &Update { request, report })
    }
}
