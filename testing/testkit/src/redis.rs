//! Real Redis servers: alone, as a Cluster, and with Sentinels.

mod cluster;
mod sentinel;
mod server;

pub use self::{
    cluster::{Move, RedisCluster},
    sentinel::RedisSentinels,
    server::RedisServer,
};
