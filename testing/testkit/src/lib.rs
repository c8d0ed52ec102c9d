//! What tests, benchmarks and the demo work with: fakes of Phabricator, Taskcluster and Lando, real servers as child processes,
//! repositories, the capture of what is logged, and the check that a page shows code as it is compiled. No program that is
//! deployed has it.
//!
//! A server ends with its value. Everything that can fail returns an error or panics in the words of the test's fault.

mod fake;
mod hgweb;
pub mod lando;
mod logs;
mod pages;
pub mod phabricator;
mod port;
mod process;
mod rabbit;
mod redis;
pub mod repositories;
mod sshd;
pub mod taskcluster;
mod tls;

pub use self::{
    fake::Fake,
    hgweb::HgWeb,
    logs::{CaptureGuard, Logs, capture_logs},
    pages::assert_page_shows,
    port::Port,
    rabbit::RabbitServer,
    redis::{Move, RedisCluster, RedisSentinels, RedisServer},
    sshd::Sshd,
    tls::Authority,
};
