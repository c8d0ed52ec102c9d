//! Real Redis servers for tests, benchmarks and the demo of a deployment: child processes that end with their values.

mod cluster;
mod port;
mod sentinel;
mod server;
mod tls;

pub use self::{
    cluster::{Move, RedisCluster},
    port::Port,
    sentinel::RedisSentinels,
    server::RedisServer,
    tls::Authority,
};
