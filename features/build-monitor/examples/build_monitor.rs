//! Watches builds and tests of Firefox on `mozilla-central` until it is interrupted.
//!
//! ```sh
//! PULSE_LOGIN=… PULSE_PASSWORD=… cargo run -p build-monitor --example build_monitor
//! ```
//!
//! The user is one of <https://pulseguardian.mozilla.org>. `PULSE_URL=amqp://localhost` is for a RabbitMQ of your own.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::{env, error::Error};

use build_monitor::{BuildFinished, BuildMonitor, Source, TestFinished};
use pulse::{Address, PulseSettings};
use tokio::signal::ctrl_c;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Called for each build. Several calls may run at once.
async fn build(build: BuildFinished) -> Outcome {
    // A failed build has no download.
    let Some(url) = build.buildurl else {
        return Ok(());
    };
    println!(
        "build {} {} {}: {url}",
        build.tree, build.platform, build.buildtype
    );
    Ok(())
}

/// Called for each test. An error is logged with the message's key, and does not stop the monitor.
async fn test(test: TestFinished) -> Outcome {
    let log = test.logurl.ok_or("a test without a log")?;
    println!(
        "test {} on {} {}: {log}",
        test.test, test.os, test.buildtype
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The monitor logs through `tracing`.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let url = env::var("PULSE_URL").unwrap_or_else(|_| "amqps://pulse.mozilla.org".to_owned());
    let settings = PulseSettings {
        address: url.parse::<Address>()?,
        vhost: "/".to_owned(),
        user: env::var("PULSE_LOGIN")?,
        password: env::var("PULSE_PASSWORD")?.into(),
        ca: None,
    };
    let mut monitor = BuildMonitor::builder()
        .source(Source::treeherder())
        .platforms(["linux64", "windows2012-64"])
        .build_types(["opt"])
        .products(["firefox"])
        .on_build(build)
        .on_test(test)
        .start(settings)?;
    ctrl_c().await?;
    // The handlers still get the events that were received.
    monitor.stop();
    monitor.join().await?;
    Ok(())
}
