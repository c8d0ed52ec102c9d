//! How long each channel takes, written to InfluxDB (1.x, or 2.x by its compatible address) as line protocol.
//!
//! It must never disturb what it measures: whoever sends puts a line into a bounded queue and goes on, and a line that
//! finds it full is dropped, as is what InfluxDB does not take. That is logged once, until it takes lines again.
//!
//! When the process ends, what waits is still written: after the last [`Flux`] is gone, and with it everyone who could
//! measure, or when there is no more time. Then InfluxDB has [`LAST`] for it.

mod settings;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::StatusCode;
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use secrecy::ExposeSecret;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{info, warn};

pub use self::settings::FluxSettings;
use crate::channels::http::Answer;

/// How many lines wait at most: some minutes of a busy process.
const WAITING: usize = 10_000;
/// How many lines are written at once.
const BATCH: usize = 1000;
/// How long lines are gathered before they are written.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the last lines may take once the process has to end at once.
const LAST: Duration = Duration::from_secs(1);

/// How a sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent,
    Failed,
}

/// Takes what was measured. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct Flux {
    lines: Sender<String>,
}

/// Writes what was measured.
pub struct FluxWriter {
    lines: Receiver<String>,
    settings: FluxSettings,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Flux {
    /// Where to put lines, and the part of the process that writes them. That part ends with the last clone of the first.
    pub fn new(
        settings: FluxSettings,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> (Self, FluxWriter) {
        let (sender, lines) = mpsc::channel(WAITING);
        (
            Self { lines: sender },
            FluxWriter {
                lines,
                settings,
                http,
                clock,
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
        // One that finds no place is dropped.
        let _ = self.lines.try_send(line(channel, outcome, begun, ended));
    }
}

/// Channels' names hold nothing that line protocol would want escaped.
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
impl Service for FluxWriter {
    fn name(&self) -> &str {
        "flux"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        tokio::select! {
            () = self.write_all(&shutdown) => {}
            () = too_late(&shutdown) => {
                let host = self.settings.url.host_str();
                warn!(host, "influxdb did not take the channels' last times before the process ended: dropped");
            }
        }
        Ok(())
    }
}

/// Resolves when the last lines had their time, which passes on whatever clock.
async fn too_late(shutdown: &Shutdown) {
    shutdown.cancelled().await;
    let _ = tokio::time::timeout(LAST, std::future::pending::<()>()).await;
}

impl FluxWriter {
    /// Writes until no line can come any more, or none is left and there is no more time.
    async fn write_all(&mut self, shutdown: &Shutdown) {
        let mut taken = true;
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
            let written = self.write(batch.concat()).await;
            self.tell(&written, taken);
            taken = written.is_ok();
            batch.clear();
            tokio::select! {
                () = shutdown.stopping() => {}
                () = self.clock.sleep(PERIOD) => {}
            }
        }
    }

    /// Logs the outcome of a batch, where the one before it was `taken` and this one was not, or the other way around.
    fn tell(&self, written: &Result<(), String>, taken: bool) {
        let host = self.settings.url.host_str();
        match written {
            Ok(()) if !taken => info!(host, "influxdb takes the channels' times again"),
            Err(problem) if taken => warn!(
                host,
                problem, "influxdb does not take the channels' times: dropped"
            ),
            _ => {}
        }
    }

    /// Writes these, or says why not.
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
        let response = request
            .send()
            .await
            .map_err(|error| error_chain(&error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; set notify.influxdb.user and notify.influxdb.password to those of a user who may write"
            }
            StatusCode::NOT_FOUND => {
                "; make the database, or set notify.influxdb.database to one that exists"
            }
            _ => "",
        };
        let said = Answer::read(response).await.quoted();
        Err(format!(
            "it answered with http status {}: {said}{advice}",
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
