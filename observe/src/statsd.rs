//! Counts and times, sent to a StatsD server: <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>.
//!
//! Each is one datagram that nobody waits for: a server that is away, or too slow, is not noticed.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use tokio::net::lookup_host;

/// A StatsD server, and what comes before each name. Clones share a socket.
#[derive(Debug, Clone)]
pub struct StatsD {
    socket: Arc<UdpSocket>,
    prefix: &'static str,
}

impl StatsD {
    /// Sends to this server, each name below `prefix`. Fails if the host has no address.
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

    /// Counts one.
    pub fn count(&self, name: &str) {
        self.say(&format!("{}.{name}:1|c", self.prefix));
    }

    /// Tells how long something took: in seconds with a fraction, which is what Datadog's client sends as a timer.
    pub fn time(&self, name: &str, took: Duration) {
        self.say(&format!("{}.{name}:{}|ms", self.prefix, took.as_secs_f64()));
    }

    fn say(&self, words: &str) {
        // What cannot be sent at once is not sent.
        let _ = self.socket.send(words.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::StatsD;

    #[tokio::test]
    async fn counts_and_times_are_datagrams_that_nobody_has_to_take() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let statsd = StatsD::open("127.0.0.1", address.port(), "commit_telemetry")
            .await
            .unwrap();
        let mut read = [0; 100];
        statsd.count("job.items");
        let length = server.recv(&mut read).await.unwrap();
        assert_eq!(&read[..length], b"commit_telemetry.job.items:1|c");
        statsd.time("job.time", Duration::from_millis(1250));
        let length = server.recv(&mut read).await.unwrap();
        assert_eq!(&read[..length], b"commit_telemetry.job.time:1.25|ms");
        drop(server);
        for _ in 0..1000 {
            statsd.count("job.items");
        }
        assert!(StatsD::open("no such host", 8125, "x").await.is_err());
    }
}
