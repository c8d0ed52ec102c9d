//! The clients: TLS, connection timeout, no redirects.

use std::time::Duration;

use reqwest::ClientBuilder;
use thiserror::Error;

/// The cause for which no client could be made.
#[derive(Debug, Error)]
#[error("cannot set up the http client")]
pub struct ClientError(#[from] reqwest::Error);

/// A client with verified TLS, a connection timeout of 10 s and `timeout` for a whole request. It follows no
/// redirects: the services that we call do not redirect, and a redirect must not carry a token elsewhere.
///
/// Use it for addresses that operators configure, and [`public_client`](crate::public_client) for addresses from foreign text.
pub fn client(timeout: Duration) -> Result<reqwest::Client, ClientError> {
    Ok(builder(timeout).build()?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that makes http clients"
)]
pub(crate) fn builder(timeout: Duration) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("code-review-events/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
}
