//! What came back from a call.

use bytes::Bytes;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use super::TaskclusterError;

/// An answer with a status that means success, or 303.
pub(super) struct Answer {
    pub(super) name: &'static str,
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, TaskclusterError> {
        serde_json::from_slice(&self.body).map_err(|error| TaskclusterError::undecodable(self.name, &error))
    }
}
