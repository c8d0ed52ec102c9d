//! Sends errors to Sentry, if a DSN is configured.
//!
//! An event holds the text of a log line of level ERROR, the module that logged it, and the fields in [`FIELDS`]. Other
//! fields may quote authors and peers, so they are left out; so are addresses, names of machines, and lines of other
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
use tracing::{Level, Metadata, Subscriber, span};
use tracing_subscriber::{Layer, filter::filter_fn, layer::Context, registry::LookupSpan};

use crate::log::Fields;

/// The fields of a log line that are sent: they name queues, steps and builds, and hold no foreign text.
pub const FIELDS: &[&str] = &[
    "attempts",
    "build",
    "channel",
    "id",
    "outcome",
    "queue",
    "repository",
    "state",
    "step",
    "task",
];

/// The name of a delivery's span, whose fields are sent as well.
const DELIVERY: &str = "delivery";

/// The crates whose log lines are sent: those of this program.
const OURS: &[&str] = &[
    "build",
    "build_monitor",
    "bus",
    "commit_telemetry",
    "events",
    "http_client",
    "notify",
    "observe",
    "phabricator",
    "pulse",
    "runtime",
    "taskcluster",
    "triggers",
    "web",
    "worker",
    "worker_git",
    "worker_hg",
];

/// The longest text, in bytes.
const MAX_TEXT: usize = 1000;

/// The longest time for a request to Sentry.
const REQUEST: Duration = Duration::from_secs(10);

/// The longest time that the end of a process waits for events in flight.
const CLOSE: Duration = Duration::from_secs(2);

static CLIENT: OnceLock<Client> = OnceLock::new();

/// The cause for which events cannot be sent.
#[derive(Debug, Error)]
pub enum SentryError {
    /// The text is not a DSN. It may be a secret, so the error leaves it out.
    #[error(
        "SENTRY_DSN is not a DSN: expected https://KEY@HOST/PROJECT, as Sentry shows it in the project's settings"
    )]
    Dsn,
    /// The HTTP client could not be made.
    #[error(transparent)]
    Http(#[from] http_client::ClientError),
}

/// Whether a text is a DSN.
pub fn is_dsn(text: &str) -> bool {
    Dsn::from_str(text).is_ok()
}

/// Starts sending the errors that [`layer`] receives. Later calls do nothing.
pub fn start(dsn: &str) -> Result<(), SentryError> {
    let dsn = Dsn::from_str(dsn).map_err(|_| SentryError::Dsn)?;
    let http = http_client::client(REQUEST)?;
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

/// A transport that uses the HTTP client of all crates.
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

/// Waits for events in flight, at most 2 s. Call it at the end of a process.
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
    let errors = Errors {
        is_on: || CLIENT.get().is_some(),
        send: |event| {
            if let Some(client) = CLIENT.get() {
                client.capture_event(event, None);
            }
        },
    };
    errors.with_filter(filter_fn(is_of_interest))
}

fn is_of_interest(metadata: &Metadata<'_>) -> bool {
    if metadata.is_span() {
        metadata.name() == DELIVERY
    } else {
        *metadata.level() == Level::ERROR
    }
}

/// Sends errors, with the fields of their delivery.
struct Errors<F> {
    is_on: fn() -> bool,
    send: F,
}

/// The fields of a delivery.
struct OfDelivery(Fields);

impl<S, F> Layer<S> for Errors<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(Event<'static>) + 'static,
{
    fn on_new_span(&self, new: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id).filter(|_| (self.is_on)()) {
            let mut fields = Fields::default();
            new.record(&mut fields);
            span.extensions_mut().insert(OfDelivery(fields));
        }
    }

    fn on_record(&self, id: &span::Id, record: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(OfDelivery(fields)) = span.extensions_mut().get_mut()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if (self.is_on)()
            && let Some(event) = read(event, &context)
        {
            (self.send)(event);
        }
    }
}

/// The event for a log line; `None` for a line of another library or level.
fn read<S>(event: &tracing::Event<'_>, context: &Context<'_, S>) -> Option<Event<'static>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let metadata = event.metadata();
    let from = metadata.target().split("::").next().unwrap_or_default();
    if *metadata.level() != Level::ERROR || !OURS.contains(&from) {
        return None;
    }
    let mut fields = Fields::default();
    let spans = context.event_scope(event).into_iter();
    for span in spans.flat_map(|spans| spans.from_root()) {
        if let Some(OfDelivery(of_span)) = span.extensions().get() {
            fields.0.extend(of_span.0.clone());
        }
    }
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
    use std::{fs, path::Path};

    use parking_lot::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn event_holds_the_text_and_the_fields_without_foreign_text() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeping = Arc::clone(&kept);
        let errors = Errors {
            is_on: || true,
            send: move |event| keeping.lock().push(event),
        };
        let errors = errors.with_filter(filter_fn(is_of_interest));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(errors), || {
            let span = tracing::info_span!("delivery", attempt = 5, build = tracing::field::Empty);
            span.record("build", "PHID-HMBT-1");
            let _entered = span.entered();
            tracing::error!(
                queue = "build:load",
                attempts = 5,
                error = "a patch says hunter2",
                diff = 7,
                "kept as a dead letter"
            );
            tracing::warn!("not an error");
            tracing::error!(target: "rustls_platform_verifier", "of a library");
            tracing::error!("{}", "é".repeat(2000));
        });
        let kept = kept.lock();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!(kept[0].message.as_deref(), Some("kept as a dead letter"));
        let extra: Vec<_> = kept[0]
            .extra
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            extra,
            [
                "attempts=5",
                "build=\"PHID-HMBT-1\"",
                "queue=\"build:load\""
            ]
        );
        assert_eq!(kept[1].message.as_ref().unwrap().len(), MAX_TEXT);
        assert!(!format!("{kept:?}").contains("hunter2"));
    }

    #[test]
    fn log_lines_of_every_deployed_crate_are_sent() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let manifest = |directory: &str| {
            let path = root.join(directory).join("Cargo.toml");
            fs::read_to_string(path).unwrap()
        };
        let workspace = manifest("");
        let members = workspace.split("members = [").nth(1).unwrap();
        let members = members.split(']').next().unwrap();
        let mut deployed: Vec<String> = members
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|member| !member.starts_with("testing/") && *member != "conventions")
            .map(|member| {
                let manifest = manifest(member);
                let name = manifest
                    .lines()
                    .find_map(|line| line.strip_prefix("name = "));
                name.unwrap().trim_matches('"').replace('-', "_")
            })
            .collect();
        deployed.sort();
        assert_eq!(deployed, OURS);
    }

    #[test]
    fn dsn_needs_a_key_a_host_and_a_project() {
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
