//! The HTTP client that everyone uses.

use std::time::Duration;

use thiserror::Error;

/// Why no client could be made.
#[derive(Debug, Error)]
#[error("cannot set up the http client")]
pub struct HttpError(#[from] reqwest::Error);

/// A client with verified TLS, a connection timeout of 10 s and `timeout` for a whole request. It follows no
/// redirects: the services we call answer themselves, and a redirect must not carry a token elsewhere.
#[expect(clippy::disallowed_methods, reason = "the one place that makes http clients")]
pub fn client(timeout: Duration) -> Result<reqwest::Client, HttpError> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("code-review-events/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    Ok(client)
}
