//! Writes the duration of each sending to InfluxDB (1.x, or 2.x by its compatible address) as line protocol.
//!
//! It never delays a sending: the sender puts a line into a bounded queue, and a line that finds it full is dropped. Lines
//! that InfluxDB rejects are dropped too. The writer logs that once, until InfluxDB accepts lines again.
//!
//! On shutdown, the writer writes the queued lines after the last [`InfluxRecorder`] is dropped. When the grace period ends
//! first, it has [`FINAL_WRITE`] for them.

mod settings;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::StatusCode;
use runtime::{Clock, FailureLog, Service, ServiceError, Shutdown};
use secrecy::ExposeSecret;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{info, warn};

pub use self::settings::InfluxSettings;
use crate::channels::http;

/// The most queued lines: some minutes of a busy process.
const CAPACITY: usize = 10_000;
/// The most lines of one request.
const BATCH: usize = 1000;
/// The time between two requests.
const PERIOD: Duration = Duration::from_secs(5);
/// The time limit of the last request, after the grace period.
const FINAL_WRITE: Duration = Duration::from_secs(1);

/// The outcome of a sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent,
    Failed,
}

/// Queues the durations of sendings. Clones share the queue.
#[derive(Debug, Clone)]
pub struct InfluxRecorder {
    lines: Sender<String>,
}

/// Writes the queued durations to InfluxDB.
pub struct InfluxWriter {
    lines: Receiver<String>,
    settings: InfluxSettings,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    failures: FailureLog,
}

impl InfluxRecorder {
    /// Creates a recorder, and the service that writes its lines. The service ends with the last clone of the recorder.
    pub fn new(
        settings: InfluxSettings,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> (Self, InfluxWriter) {
        let (sender, lines) = mpsc::channel(CAPACITY);
        (
            Self { lines: sender },
            InfluxWriter {
                lines,
                settings,
                http,
                clock,
                failures: FailureLog::default(),
            },
        )
    }

    pub(crate) fn record(
        &self,
        channel: &'static str,
        outcome: Outcome,
        begun: Timestamp,
        ended: Timestamp,
    ) {
        // A line that finds the queue full is dropped.
        let _ = self.lines.try_send(line(channel, outcome, begun, ended));
    }
}

/// A point in line protocol. Names of channels need no escape.
fn line(channel: &'static str, outcome: Outcome, begun: Timestamp, ended: Timestamp) -> String {
    let outcome = match outcome {
        Outcome::Sent => "sent",
        Outcome::Failed => "failed",
    };
    let milliseconds = ended.duration_since(begun).as_secs_f64() * 1000.0;
    format!(
        "notify,channel={channel},outcome={outcome} duration_ms={milliseconds:.3} {}\n",
        ended.as_nanosecond()
    )
}

#[async_trait]
impl Service for InfluxWriter {
    fn name(&self) -> &str {
        "influxdb"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        tokio::select! {
            () = self.write_all(&shutdown) => {}
            () = too_late(&shutdown) => {
                let host = self.settings.url.host_str();
                warn!(host, "cannot write the last durations to InfluxDB before the process ends; dropped");
            }
        }
        Ok(())
    }
}

/// Resolves [`FINAL_WRITE`] after the end of the grace period, in real time.
async fn too_late(shutdown: &Shutdown) {
    shutdown.cancelled().await;
    let _ = tokio::time::timeout(FINAL_WRITE, std::future::pending::<()>()).await;
}

impl InfluxWriter {
    /// Writes until all recorders are dropped, or the grace period is over and no line is left.
    async fn write_all(&mut self, shutdown: &Shutdown) {
        let mut batch = Vec::new();
        loop {
            let received = tokio::select! {
                biased;
                received = self.lines.recv_many(&mut batch, BATCH) => received,
                () = shutdown.cancelled() => 0,
            };
            if received == 0 {
                return;
            }
            self.log_change(&self.write(batch.concat()).await);
            batch.clear();
            tokio::select! {
                () = shutdown.stopping() => {}
                () = self.clock.sleep(PERIOD) => {}
            }
        }
    }

    /// Logs the outcome of a request where it begins or ends an outage.
    fn log_change(&self, written: &Result<(), String>) {
        let host = self.settings.url.host_str();
        match written {
            Ok(()) if self.failures.recovered() => info!(host, "InfluxDB accepts durations again"),
            Err(problem) if self.failures.should_log(()) => warn!(
                host,
                problem, "cannot write durations to InfluxDB; dropped until it recovers"
            ),
            _ => {}
        }
    }

    /// Writes these lines; the error is a text for operators.
    async fn write(&self, lines: String) -> Result<(), String> {
        let mut url = self.settings.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("write");
        }
        url.query_pairs_mut()
            .append_pair("db", &self.settings.database)
            .append_pair("precision", "ns");
        let mut request = self.http.post(url).body(lines);
        if let Some((user, password)) = &self.settings.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let response = http_client::open(request, http::LIMITS)
            .await
            .map_err(|error| error.causes())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; set notify.influxdb.user and notify.influxdb.password to those of a user who may write"
            }
            StatusCode::NOT_FOUND => {
                "; create the database, or set notify.influxdb.database to one that exists"
            }
            _ => "",
        };
        let password = self.settings.login.iter().map(|(_, password)| password);
        let answer = http::quoted(&response.beginning().await, password);
        Err(format!(
            "it answered with http status {}: {answer}{advice}",
            status.as_u16()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_is_encoded_as_line_protocol() {
        let begun: Timestamp = "2026-11-21T02:48:05Z".parse().unwrap();
        let ended: Timestamp = "2026-11-21T02:48:05.0125Z".parse().unwrap();
        let written = line("smtp", Outcome::Sent, begun, ended);
        assert_eq!(
            written,
            "notify,channel=smtp,outcome=sent duration_ms=12.500 1795229285012500000\n"
        );
    }
}
