//! How long each channel takes, written to InfluxDB (1.x, or 2.x by its compatible address) as line protocol.
//!
//! It must never disturb what it measures: whoever sends puts a line into a bounded queue and goes on, and a line that
//! finds it full is dropped, as is what InfluxDB does not take. That is logged once, until it takes lines again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Clock, Shutdown, Subsystem, SubsystemError, error_chain};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{info, warn};
use url::Url;

/// How many lines wait at most: some minutes of a busy process.
const WAITING: usize = 10_000;
/// How many lines are written at once.
const BATCH: usize = 1000;
/// How long lines are gathered before they are written.
const PERIOD: Duration = Duration::from_secs(5);

/// Where InfluxDB is.
#[derive(Debug, Clone)]
pub struct FluxSettings {
    /// Its base address.
    pub url: Url,
    /// The database that is written to; it has to exist.
    pub database: String,
    /// The user and the password, where it wants them.
    pub login: Option<(String, SecretString)>,
}

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
    /// Where to put lines, and the part of the process that writes them.
    pub fn new(settings: FluxSettings, http: reqwest::Client, clock: Arc<dyn Clock>) -> (Self, FluxWriter) {
        let (sender, lines) = mpsc::channel(WAITING);
        (Self { lines: sender }, FluxWriter { lines, settings, http, clock })
    }

    pub(crate) fn record(&self, channel: &'static str, outcome: Outcome, begun: Timestamp, ended: Timestamp) {
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
    format!("notify,channel={channel},outcome={outcome} duration_ms={milliseconds:.3} {}\n", ended.as_nanosecond())
}

#[async_trait]
impl Subsystem for FluxWriter {
    fn name(&self) -> &str {
        "flux"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        let mut taken = true;
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                received = self.lines.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return Ok(());
                    }
                }
            }
            let written = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                written = self.write(batch.concat()) => written,
            };
            match &written {
                Ok(()) if !taken => info!("influxdb takes the channels' times again"),
                Err(problem) if taken => {
                    warn!(
                        host = self.settings.url.host_str(),
                        problem, "influxdb does not take the channels' times: dropped"
                    );
                }
                _ => {}
            }
            taken = written.is_ok();
            batch.clear();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.clock.sleep(PERIOD) => {}
            }
        }
    }
}

impl FluxWriter {
    /// Writes these, or says why not.
    async fn write(&self, lines: String) -> Result<(), String> {
        let mut url = self.settings.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("write");
        }
        url.query_pairs_mut().append_pair("db", &self.settings.database).append_pair("precision", "ns");
        let mut request = self.http.post(url).body(lines);
        if let Some((user, password)) = &self.settings.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let answer = request.send().await.map_err(|error| error_chain(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered with http status {}", status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_line_protocol() {
        let begun: Timestamp = "2026-11-21T02:48:05Z".parse().unwrap();
        let ended: Timestamp = "2026-11-21T02:48:05.0125Z".parse().unwrap();
        let written = line("smtp", Outcome::Sent, begun, ended);
        assert_eq!(written, "notify,channel=smtp,outcome=sent duration_ms=12.500 1795229285012500000\n");
    }
}
