//! What the channels talk to.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, and says why"
)]

pub(crate) mod influx;
pub(crate) mod irc_client;
pub(crate) mod logs;
pub(crate) mod matrix;
pub(crate) mod moto;
pub(crate) mod ngircd;
pub(crate) mod slack;
pub(crate) mod smtp;

use axum::Router;
use tokio::net::TcpListener;

/// Serves `routes` on a free port until the test ends, and gives the address.
pub(crate) async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// The address of a port on which nobody listens: the first one is no one's.
pub(crate) fn closed() -> String {
    "http://127.0.0.1:1".to_owned()
}
