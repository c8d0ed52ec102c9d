//! Servers of other kinds than one on a socket: with TLS, watched by Sentinels, in a Cluster, replaced, full, or no good.

mod cluster;
mod memory;
mod moved;
mod relay;
mod sentinel;
mod tls;
mod unfit;

use std::{sync::Arc, time::Duration};

use bus::{
    Backoff, Bus, BusError, Delivery, Queue, RedisBus, RedisOptions, Reserve, Retry, Retryable,
};
use runtime::{Clock, SystemClock, error_chain};
use testkit::RedisServer;

use crate::world::Note;

fn connect(options: &RedisOptions) -> Arc<RedisBus> {
    // Another test of this process may have chosen it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Arc::new(RedisBus::new(options, &SystemClock).unwrap())
}

/// Whether trying again helps, and what fails by it loses no attempt.
fn is_passing(error: &BusError) -> bool {
    matches!(error.retry(), Retry::Defer(_))
}

/// An error after which trying again helps, as it is logged.
fn passing<T: std::fmt::Debug>(result: Result<T, BusError>) -> String {
    let error = result.unwrap_err();
    assert!(is_passing(&error), "{error:?}");
    error_chain(&error)
}

/// Tries until it goes, as a worker does that waits for Redis: the errors must be such that trying again helps.
async fn persist<T, F: Future<Output = Result<T, BusError>>>(
    what: &str,
    attempt: impl Fn() -> F,
) -> T {
    let away = Backoff {
        first: Duration::from_millis(20),
        factor: 2,
        cap: Duration::from_millis(200),
    };
    for number in 1..200 {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(is_passing(&error), "{what}: {error:?}"),
        }
        SystemClock.sleep(away.after(number, &SystemClock)).await;
    }
    panic!("tried in vain: {what}");
}

/// Reserves one message, and waits for it.
async fn reserve(bus: &RedisBus, queue: &Queue<Note>) -> Delivery {
    let request = Reserve {
        wait: Duration::from_secs(60),
        ..Reserve::now(1)
    };
    bus.reserve(&queue.spec(), request)
        .await
        .unwrap()
        .pop()
        .expect("a message")
}

/// Waits until somebody waits for messages on `server`.
async fn wait_begins(server: &RedisServer) {
    loop {
        let clients: String = server.command(&["CLIENT", "LIST"]).await.unwrap();
        if clients
            .lines()
            .any(|client| client.contains("cmd=xread") && client.contains("flags=b"))
        {
            return;
        }
    }
}
