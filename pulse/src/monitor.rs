//! The build monitor: reports builds and tests of interest as they finish.
//!
//! A complete program, which prints where new builds of Firefox for 64-bit Linux are:
//!
//! ```no_run
//! use pulse::{Address, PulseSettings, monitor::BuildMonitor};
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
//! [`BuildMonitorBuilder::start`] returns at once. Who wants no callbacks takes [`BuildMonitorBuilder::stream`], with builds
//! and tests as they come.
//!
//! # Which events, and how often
//!
//! A queue on Pulse that is not emptied is deleted. So a message is acknowledged as soon as it is read and filtered, and
//! what is wanted of it waits in memory for the handlers, of which [several](BuildMonitorBuilder::concurrency) run at once,
//! in no order. What waits when the process dies is lost. What RabbitMQ does not hear was taken, since the connection broke,
//! it sends again.
//!
//! When 1,000 events wait, each new one pushes the oldest out: who watches builds wants to know of the newest. It is counted
//! (`pulse_monitor_dropped_total`), and logged once a minute at most.
//!
//! A handler that returns an error, panics or takes [too long](BuildMonitorBuilder::time_limit) is logged with the message's
//! key and counted (`pulse_monitor_handlers_failed_total`), and nothing else comes of it. A message that cannot be read, or
//! has more than 256 kB, is counted (`pulse_monitor_unreadable_total`), and logged with its routing key once a minute at
//! most. An outage of RabbitMQ is logged once, and waited for; a setting that is wrong, such as the exchange or the password,
//! ends the monitor at the start, with an error from [`BuildMonitor::join`]. A handler that has often something to say can say it as
//! [seldom](Seldom).
//!
//! # Where fields come from
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
//! | `product` | builds: `product`; tests: routing key | `productName` in small letters, unless it is `unknown` |
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

mod buffer;
mod buildbot;
mod builder;
mod event;
mod filters;
mod handlers;
mod intake;
mod meters;
mod seldom;
mod source;
mod treeherder;

pub use builder::{BuildMonitor, BuildMonitorBuilder};
pub use event::{BuildFinished, Event, TestFinished};
pub use handlers::HandlerError;
pub use seldom::Seldom;
pub use source::Source;
