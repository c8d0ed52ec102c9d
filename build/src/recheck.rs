//! The last look before a push.

use async_trait::async_trait;
use thiserror::Error;

use super::{Build, Report};

/// Looks again whether a build is still to be pushed: it may have waited for long since its stack was loaded.
#[async_trait]
pub trait Recheck: Send + Sync + 'static {
    /// The end of a build that is not to be pushed any more; `None` when it is.
    async fn recheck(&self, build: &Build) -> Result<Option<Report>, Unsure>;
}

/// Nobody can tell at the moment. Nothing may be pushed meanwhile: the revision may have become private.
#[derive(Debug, Error)]
#[error("cannot ask whether the build is still wanted")]
pub struct Unsure(#[source] pub Box<dyn std::error::Error + Send + Sync>);
