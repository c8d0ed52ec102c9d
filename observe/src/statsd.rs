//! Sends counts and durations to a StatsD server: <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>.
//!
//! Each value is one datagram without a response: a server that is down, or too slow, has no effect here.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use tokio::net::lookup_host;

/// A client of a StatsD server, with a prefix for names. Clones share a socket.
#[derive(Debug, Clone)]
pub struct StatsD {
    socket: Arc<UdpSocket>,
    prefix: &'static str,
}

impl StatsD {
    /// A client that sends to `host`, with names below `prefix`. Fails if the host has no address.
    pub async fn open(host: &str, port: u16, prefix: &'static str) -> io::Result<Self> {
        let mut addresses = lookup_host((host, port)).await?;
        let address = addresses
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::new(socket),
            prefix,
        })
    }

    /// Adds `count` to the counter `name`.
    pub fn count(&self, name: &str, count: usize) {
        self.send(&format!("{}.{name}:{count}|c", self.prefix));
    }

    /// Sends a duration as a timer: in seconds with a fraction, as Datadog's client does.
    pub fn time(&self, name: &str, took: Duration) {
        self.send(&format!("{}.{name}:{}|ms", self.prefix, took.as_secs_f64()));
    }

    fn send(&self, line: &str) {
        // A datagram that cannot be sent at once is dropped.
        let _ = self.socket.send(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::StatsD;

    #[tokio::test]
    async fn counts_and_durations_are_sent_whether_or_not_a_server_reads_them() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let statsd = StatsD::open("127.0.0.1", address.port(), "commit_telemetry")
            .await
            .unwrap();
        let mut read = [0; 100];
        statsd.count("job.items", 3);
        let length = server.recv(&mut read).await.unwrap();
        assert_eq!(&read[..length], b"commit_telemetry.job.items:3|c");
        statsd.time("job.time", Duration::from_millis(1250));
        let length = server.recv(&mut read).await.unwrap();
        assert_eq!(&read[..length], b"commit_telemetry.job.time:1.25|ms");
        drop(server);
        for _ in 0..1000 {
            statsd.count("job.items", 1);
        }
        assert!(StatsD::open("no such host", 8125, "x").await.is_err());
    }
}
