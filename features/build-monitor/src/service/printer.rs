//! Prints on a thread of its own. Standard output may be a pipe that nobody reads, which would block a thread of the runtime
//! without a limit. The end of the process does not wait for this thread.

use std::{
    io::{self, ErrorKind, Write},
    thread,
};

use runtime::{Clock, LogRateLimiter, Shutdown, SystemClock};
use tokio::sync::oneshot;
use tracing::error;

use super::drop_sink::DropSink;

/// Starts to print lines on `to`. Once the sink is dropped and all lines are printed, the receiver gets an error. When the
/// reader has closed the pipe, it stops the process.
pub(super) fn start(
    mut to: impl Write + Send + 'static,
    shutdown: Shutdown,
) -> io::Result<(DropSink<String>, oneshot::Receiver<()>)> {
    let (lines, mut waiting) = DropSink::new(
        "build_monitor_lines_dropped_total",
        "the reader of the build monitor's output is too slow",
    );
    let (printing, printed) = oneshot::channel();
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let _printing: oneshot::Sender<()> = printing;
            let mut failed = LogRateLimiter::default();
            while let Some(line) = waiting.blocking_recv() {
                let Err(error) = writeln!(to, "{line}") else {
                    continue;
                };
                if error.kind() == ErrorKind::BrokenPipe {
                    return shutdown.stop();
                }
                if let Some(count) = failed.count(SystemClock.now()) {
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
    async fn all_lines_are_printed_before_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        let (lines, printed) = start(writer, Shutdown::new()).unwrap();
        for number in 0..100 {
            lines.send(number.to_string(), "key");
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
    async fn closed_pipe_stops_process_and_other_failures_do_not() {
        /// Fails with these errors, the last one first.
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
        lines.send("a".to_owned(), "key");
        drop(lines);
        assert!(printed.await.is_err());
        assert!(!full.is_stopping());
        let unread = Shutdown::new();
        let (lines, _printed) = start(Faulty(vec![ErrorKind::BrokenPipe]), unread.clone()).unwrap();
        lines.send("a".to_owned(), "key");
        unread.stopping().await;
    }
}
