//! For tests: captures what a test logs, as text.
//!
//! `tracing` remembers for each call site whether anybody is interested in it, for the whole process. A subscriber that
//! one thread sets for itself comes and goes, and with tests side by side a call site can be found uninteresting just
//! before a test wants to read it. So there is one subscriber for the process, which is interested in everything at
//! `INFO` and above, and writes to the capture of the thread that logs; without a capture it writes nothing.

use std::{
    cell::RefCell,
    io::{self, Write},
    marker::PhantomData,
    sync::{Arc, Once},
};

use parking_lot::Mutex;

use tracing::subscriber::set_global_default;

thread_local! {
    /// The captures of this thread; the newest receives what is logged.
    static CAPTURES: RefCell<Vec<Logs>> = const { RefCell::new(Vec::new()) };
}

/// Captured log lines.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

/// Ends a capture when it is dropped. Stays on its thread.
#[derive(Debug)]
#[must_use = "the capture ends with its guard"]
pub struct CaptureGuard(PhantomData<*const ()>);

/// Captures the log lines of this thread, until the guard is dropped.
///
/// # Panics
///
/// When the process has another global subscriber already.
pub fn capture_logs() -> (CaptureGuard, Logs) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| CurrentCapture)
            .finish();
        #[expect(clippy::expect_used, reason = "a test that cannot read logs must fail")]
        set_global_default(subscriber)
            .expect("no other subscriber in a process that captures logs");
    });
    let logs = Logs::default();
    CAPTURES.with_borrow_mut(|captures| captures.push(logs.clone()));
    (CaptureGuard(PhantomData), logs)
}

impl Drop for CaptureGuard {
    fn drop(&mut self) {
        CAPTURES.with_borrow_mut(|captures| captures.pop());
    }
}

impl Logs {
    /// All lines so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// The number of lines that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.text()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }
}

/// Writes to the newest capture of the current thread.
struct CurrentCapture;

impl Write for CurrentCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURES.with_borrow(|captures| {
            if let Some(Logs(buffer)) = captures.last() {
                buffer.lock().extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
