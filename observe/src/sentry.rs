//! Errors to Sentry, where a DSN is set. Without one nothing is started.
//!
//! An event holds the text of a log line of level ERROR, who logged it, and the fields in [`FIELDS`]. Other fields may
//! quote what authors and peers wrote, so they stay here; so do addresses, names of machines, and lines of other
//! libraries.

use std::{
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sentry::{
    Client, ClientOptions, Transport, TransportFactory, TransportOptions,
    protocol::{Event, Level as SentryLevel, Value},
    transports::ReqwestHttpTransportOptions,
    types::Dsn,
};
use thiserror::Error;
use tracing::{Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::{
    http::{self, HttpError},
    log::Fields,
};

/// The fields of a log line that are sent: they name queues, steps and builds, and quote nobody.
pub const FIELDS: &[&str] = &[
    "attempts",
    "build",
    "channel",
    "id",
    "queue",
    "repository",
    "step",
];

/// Who may log what is sent: the crates of this program.
const OURS: &[&str] = &[
    "bus",
    "commit_telemetry",
    "events",
    "notify",
    "observe",
    "phabricator",
    "pulse",
    "taskcluster",
    "web",
    "worker_hg",
];

/// The longest text, in bytes.
const MAX_TEXT: usize = 1000;

/// How long one request to Sentry may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long the end of a process waits for what is on its way.
const CLOSE: Duration = Duration::from_secs(2);

static CLIENT: OnceLock<Client> = OnceLock::new();

/// Why nothing can be sent.
#[derive(Debug, Error)]
pub enum SentryError {
    /// It is no DSN. Its text may be a secret.
    #[error(
        "SENTRY_DSN is no DSN: expected https://KEY@HOST/PROJECT, as Sentry shows it in the project's settings"
    )]
    Dsn,
    /// No client could be made.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// Whether a text is a DSN.
pub fn is_dsn(text: &str) -> bool {
    Dsn::from_str(text).is_ok()
}

/// Begins to send what [`layer`] sees from now on. Only the first call of a process counts.
pub fn start(dsn: &str) -> Result<(), SentryError> {
    let dsn = Dsn::from_str(dsn).map_err(|_| SentryError::Dsn)?;
    let http = http::client(REQUEST)?;
    let mut options = ClientOptions::default();
    options.dsn = Some(dsn);
    options.default_integrations = false;
    options.send_default_pii = false;
    options.max_breadcrumbs = 0;
    options.release = Some(concat!("code-review-events@", env!("CARGO_PKG_VERSION")).into());
    options.transport = Some(Arc::new(OurClient(http)));
    let _ = CLIENT.set(Client::with_options(options));
    Ok(())
}

/// Sends through the HTTP client that everyone uses.
struct OurClient(reqwest::Client);

impl TransportFactory for OurClient {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(
            ReqwestHttpTransportOptions::from(options)
                .with_client(self.0.clone())
                .build(),
        )
    }
}

/// Waits a little for what is on its way. Call it at the end of a process.
pub fn close() {
    if let Some(client) = CLIENT.get() {
        client.close(Some(CLOSE));
    }
}

/// The layer that sends errors. It costs nothing until [`start`].
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Errors.with_filter(LevelFilter::ERROR)
}

struct Errors;

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if let Some(client) = CLIENT.get()
            && let Some(event) = read(event)
        {
            client.capture_event(event, None);
        }
    }
}

/// What is sent of a log line; nothing of one that is not ours.
fn read(event: &tracing::Event<'_>) -> Option<Event<'static>> {
    let metadata = event.metadata();
    let from = metadata.target().split("::").next().unwrap_or_default();
    if *metadata.level() != Level::ERROR || !OURS.contains(&from) {
        return None;
    }
    let mut fields = Fields::default();
    event.record(&mut fields);
    let text = fields
        .0
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
    let extra = FIELDS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), fields.0.get(*name)?.clone())));
    Some(Event {
        level: SentryLevel::Error,
        logger: Some(metadata.target().to_owned()),
        message: Some(text),
        extra: extra.collect(),
        ..Event::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps what would be sent.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Event<'static>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().extend(read(event));
        }
    }

    #[test]
    fn event_holds_the_text_and_the_fields_that_quote_nobody() {
        let kept = Kept::default();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(kept.clone()),
            || {
                tracing::error!(
                    queue = "builds",
                    attempts = 5,
                    error = "a patch says hunter2",
                    diff = 7,
                    "kept as a dead letter"
                );
                tracing::warn!("not an error");
                tracing::error!(target: "rustls_platform_verifier", "of a library");
                tracing::error!("{}", "é".repeat(2000));
            },
        );
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!(kept[0].message.as_deref(), Some("kept as a dead letter"));
        let extra: Vec<_> = kept[0]
            .extra
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(extra, ["attempts=5", "queue=\"builds\""]);
        assert_eq!(kept[1].message.as_ref().unwrap().len(), MAX_TEXT);
        assert!(!format!("{kept:?}").contains("hunter2"));
    }

    #[test]
    fn dsn_has_a_key_a_host_and_a_project() {
        assert!(is_dsn("https://key@sentry.example.com/1"));
        assert!(!is_dsn("https://sentry.example.com/1"));
        assert!(!is_dsn("a secret"));
        assert!(
            !start("https://hunter2")
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
    }
}
