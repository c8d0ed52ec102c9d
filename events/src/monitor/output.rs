//! Standard output, on a thread of its own: it may lead to a pipe that nobody empties, and who writes to that is held up
//! for as long. A thread of the runtime must not be, and the end of the process does not wait for this one.

use std::{
    io::{self, ErrorKind, Write},
    thread,
};

use pulse::monitor::Seldom;
use runtime::{Clock, Shutdown, SystemClock};
use tokio::sync::oneshot;
use tracing::error;

use super::outlet::Outlet;

/// Starts to print lines on `to`, until the outlet is dropped and all is printed; then the second value is dropped from
/// the other side. When nobody reads any more, the process is stopped.
pub(super) fn start(
    mut to: impl Write + Send + 'static,
    shutdown: Shutdown,
) -> io::Result<(Outlet<String>, oneshot::Receiver<()>)> {
    let (lines, mut waiting) = Outlet::new(
        "monitor_lines_dropped_total",
        "who reads the output of the build monitor is too slow",
    );
    let (printing, printed) = oneshot::channel();
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let _printing: oneshot::Sender<()> = printing;
            let mut failed = Seldom::default();
            while let Some(line) = waiting.blocking_recv() {
                let Err(error) = writeln!(to, "{line}") else {
                    continue;
                };
                if error.kind() == ErrorKind::BrokenPipe {
                    // Whoever reads has seen enough.
                    return shutdown.stop();
                }
                if let Some(count) = failed.happens(SystemClock.now()) {
                    error!(count, error = %error, "cannot print an event");
                }
            }
        })?;
    Ok((lines, printed))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[tokio::test]
    async fn all_lines_are_printed_before_it_ends() {
        let (reader, writer) = io::pipe().unwrap();
        let (lines, printed) = start(writer, Shutdown::new()).unwrap();
        for number in 0..100 {
            lines.offer(number.to_string(), "key");
        }
        drop(lines);
        assert!(printed.await.is_err());
        let read: Vec<_> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert_eq!(
            read,
            (0..100)
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_printed_ends_nothing_unless_nobody_reads() {
        /// Fails in these ways, one after another.
        struct Faulty(Vec<ErrorKind>);
        impl Write for Faulty {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0
                    .pop()
                    .map_or(Ok(bytes.len()), |kind| Err(kind.into()))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let full = Shutdown::new();
        let (lines, printed) = start(Faulty(vec![ErrorKind::StorageFull]), full.clone()).unwrap();
        lines.offer("a".to_owned(), "key");
        drop(lines);
        assert!(printed.await.is_err());
        assert!(!full.is_stopping());
        let unread = Shutdown::new();
        let (lines, _printed) = start(Faulty(vec![ErrorKind::BrokenPipe]), unread.clone()).unwrap();
        lines.offer("a".to_owned(), "key");
        unread.stopping().await;
    }
}
