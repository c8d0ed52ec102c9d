//! A port for a server that is a child process, and so cannot be given a socket that listens already.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::{Ipv4Addr, TcpStream},
};

use runtime::{Clock, SystemClock};

/// The lowest port that is given.
const FIRST: u16 = 10_000;

/// The first port that the system chooses by itself, where it does not say so.
const EPHEMERAL: u16 = 32_768;

/// A TCP port of this machine. No other [`Port`] has its number while it lives, in whatever process, and the system gives
/// it to no socket by itself. So a server can be started on it, killed, and started again.
///
/// A port that a socket was bound to and has left is no such port: before the server binds it, the system may give it to
/// another socket, and a child that was just forked may still hold the first one.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked while this value lives; the system unlocks it when the process ends.
    _lock: File,
}

impl Port {
    /// A port on which nobody listens.
    pub fn claim() -> io::Result<Self> {
        let locks = std::env::temp_dir().join("code-review-events-ports");
        fs::create_dir_all(&locks)?;
        let end = ephemeral().max(FIRST + 1);
        let count = end - FIRST;
        // Not the same ones first in each process, so that few meet.
        let begin = u16::try_from(SystemClock.random() % u64::from(count)).unwrap_or(0);
        for number in (FIRST + begin..end).chain(FIRST..FIRST + begin) {
            let lock = File::create(locks.join(number.to_string()))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_err() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        let reason = format!("no port from {FIRST} to {end} is free");
        Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Where the range begins from which the system chooses ports by itself.
fn ephemeral() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::TcpListener};

    use super::*;

    #[test]
    fn claimed_ports_differ_and_are_free() {
        let ports: Vec<_> = (0..200).map(|_| Port::claim().unwrap()).collect();
        let numbers: HashSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for number in numbers {
            assert!(number < ephemeral(), "{number}");
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        }
    }
}
