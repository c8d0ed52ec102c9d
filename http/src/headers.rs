//! Headers of responses.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};

/// The pause that a peer requests by `Retry-After`, if it is one in seconds.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = header(headers, RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
