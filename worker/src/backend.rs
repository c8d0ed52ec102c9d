//! The backend of a repository: a version control, and the destination of its heads.

use std::sync::Arc;

use crate::{
    WorkerError,
    destination::Destination,
    vcs::{Site, Vcs},
};

/// Opens the destination of a clone slot.
type OpenDestination = dyn Fn(&Site<'_>) -> Result<Box<dyn Destination>, WorkerError> + Send + Sync;

/// A version control, and the destination of its heads.
#[derive(Clone)]
pub struct Backend {
    vcs: Arc<dyn Vcs>,
    open: Option<Arc<OpenDestination>>,
}

impl Backend {
    /// Pushes heads to the version control's own destination.
    pub fn new(vcs: Arc<dyn Vcs>) -> Self {
        Self { vcs, open: None }
    }

    /// Pushes heads to the destination that `open` returns for a clone slot, instead of the version control's own.
    #[must_use]
    pub fn pushing_to(
        self,
        open: impl Fn(&Site<'_>) -> Result<Box<dyn Destination>, WorkerError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: Some(Arc::new(open)),
            ..self
        }
    }

    /// The version control.
    pub fn vcs(&self) -> &dyn Vcs {
        self.vcs.as_ref()
    }

    /// Whether heads go to the version control's own destination.
    pub(crate) fn has_own_destination(&self) -> bool {
        self.open.is_none()
    }

    /// Opens the destination of a clone slot, unless it is the version control's own.
    pub(crate) fn open_destination(
        &self,
        site: &Site<'_>,
    ) -> Result<Option<Box<dyn Destination>>, WorkerError> {
        self.open.as_ref().map(|open| open(site)).transpose()
    }
}
