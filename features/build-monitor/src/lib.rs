//! The build monitor reports builds and tests of interest as they finish. It needs Pulse, and no bus.
//!
//! This program prints the addresses of new builds of Firefox for 64-bit Linux:
//!
//! ```no_run
//! use build_monitor::BuildMonitor;
//! use pulse::{Address, PulseSettings};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings = PulseSettings {
//!         address: "amqps://pulse.mozilla.org".parse::<Address>()?,
//!         vhost: "/".to_owned(),
//!         user: std::env::var("PULSE_LOGIN")?,
//!         password: std::env::var("PULSE_PASSWORD")?.into(),
//!         ca: None,
//!     };
//!     let mut monitor = BuildMonitor::builder()
//!         .trees(["mozilla-central"])
//!         .platforms(["linux64"])
//!         .products(["firefox"])
//!         .on_build(async |build| {
//!             println!("{} {} {}", build.tree, build.buildtype, build.buildurl.unwrap_or_default());
//!             Ok::<(), std::io::Error>(())
//!         })
//!         .start(settings)?;
//!     monitor.join().await?;
//!     Ok(())
//! }
//! ```
//!
//! [`BuildMonitorBuilder::start`] returns at once. [`BuildMonitorBuilder::stream`] yields builds and tests without handlers.
//! A [`MonitorService`] prints events and runs a command for each; [`page`] serves the newest builds.
//!
//! # Guarantees
//!
//! PulseGuardian deletes a queue that grows. So a message is acknowledged as soon as it is read and filtered, and its event
//! waits in memory for the handlers. [Several](BuildMonitorBuilder::concurrency) of them run at once, in no order. Events
//! that wait when the process dies are lost. RabbitMQ delivers a message again when the connection broke before its
//! acknowledgement.
//!
//! When 1,000 events wait, each new one displaces the oldest, which is counted (`build_monitor_dropped_total`) and logged
//! once a minute at most.
//!
//! A handler that returns an error, panics or takes [too long](BuildMonitorBuilder::time_limit) is logged with the key of
//! the message and counted (`build_monitor_handlers_failed_total`). A message that cannot be read, or has more than 256 kB,
//! is counted (`build_monitor_parse_errors_total`), and logged with its routing key once a minute at most. An outage of
//! RabbitMQ is logged once, and the connection is tried again. A setting that is wrong, such as the exchange or the
//! password, ends the monitor at the start, with an error from [`BuildMonitor::join`]. A handler can limit its own log lines
//! by a [`LogRateLimiter`].
//!
//! # Sources of the fields
//!
//! | field | [buildbot](Source::buildbot) | [Treeherder](Source::treeherder) |
//! | --- | --- | --- |
//! | `tree` | routing key | `origin.project` |
//! | `branch` | the tree: its messages have no branch | the tree |
//! | `platform` | routing key | `buildMachine.platform`, else `runMachine.platform`, else from `display.jobName` |
//! | `os` | routing key | `runMachine.os`; where that is a dash, `runMachine.platform`; else the platform |
//! | `buildtype` | routing key | `debug` or `opt` if it is one of the `labels`, else the first of them, else `opt` |
//! | `tags` | `tags` | the other `labels` |
//! | `test` | routing key | `display.jobName` after platform and build type |
//! | `talos` | routing key | whether `test` begins with `talos` |
//! | `mobile` | whether `platform` begins with `android` | the same |
//! | `product` | builds: `product`; tests: routing key | `productName` in lower case, unless it is `unknown` |
//! | `buildurl` | `buildurl` | the link in `jobInfo` to `target.` with the ending of an archive or a package |
//! | `testsurl` | `testsurl` | the link to `target.common.tests.…`, else to `target.test_packages.json` |
//! | `logurl` | `logurl` | the first of the `logs` |
//! | `buildid` | `buildid` | none |
//! | `builddate` | `builddate` | builds: `timeStarted`; tests: none, since a job does not say what it tests |
//! | `timestamp` | `timestamp`: when buildbot's own message came | `timeCompleted` |
//! | `key` | `key`: that of buildbot's own message | routing key |
//!
//! Buildbot reported each build and test once it had finished. Of Treeherder's jobs, those that completed with a result are
//! events; unfinished, cancelled, superseded and repeated ones are not.

mod builder;
mod event;
mod event_sink;
mod filters;
mod handlers;
mod latest;
mod meters;
pub mod page;
mod service;
mod source;

pub use builder::{BuildMonitor, BuildMonitorBuilder};
pub use event::{BuildFinished, Event, TestFinished};
pub use handlers::HandlerError;
pub use latest::Latest;
pub use runtime::LogRateLimiter;
pub use service::{Command, Format, MonitorService};
pub use source::Source;
