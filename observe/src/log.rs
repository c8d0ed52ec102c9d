//! Logs: text for people, or one JSON object a line in Mozilla's `mozlog` format for machines.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use serde_json::{Map, Value, json};
use thiserror::Error;
use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{
        FmtContext, FormatEvent, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};

use runtime::sanitize;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text,
    /// JSON for machines.
    Mozlog,
}

/// The cause for which logs cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `LOG_FORMAT` has an unknown value.
    #[error("LOG_FORMAT is {0:?}; set it to text or mozlog")]
    Format(String),
    /// `RUST_LOG` is not a filter.
    #[error("RUST_LOG is not a filter; set it to one such as info or bus=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

impl Format {
    /// The format that `LOG_FORMAT` names; text without a value.
    pub fn parse(value: Option<&str>) -> Result<Self, LogError> {
        match value {
            None | Some("" | "text") => Ok(Self::Text),
            Some("mozlog") => Ok(Self::Mozlog),
            Some(other) => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// The libraries that do not log unless `RUST_LOG` names them. At each attempt they log the error that they also return; our
/// code logs it once for each outage. The AMQP client also logs each response that a queue does not exist.
const QUIET: &str = "lapin=off,rustls=off,rustls_platform_verifier=off";

/// The character that begins a terminal's command. In a record it may only begin our own colours.
const ESCAPE: char = '\u{1b}';

/// Writes records for people: each on one line, with control and format characters escaped.
struct OneLineEach<W> {
    writer: W,
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLineEach<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine {
            writer: self.writer.make_writer(),
            colours: self.colours,
        }
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        OneLine {
            writer: self.writer.make_writer_for(metadata),
            colours: self.colours,
        }
    }
}

/// Receives whole records.
struct OneLine<W> {
    writer: W,
    colours: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut parts = line.split(ESCAPE);
        let mut shown = sanitize::escape(parts.next().unwrap_or_default()).into_owned();
        for part in parts {
            shown.push_str(if self.colours && begins_with_colour(part) {
                "\u{1b}"
            } else {
                "\\u{1b}"
            });
            shown.push_str(&sanitize::escape(part));
        }
        shown.push('\n');
        self.writer.write_all(shown.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether the text behind an escape character begins with a command that sets colours.
fn begins_with_colour(sequence: &str) -> bool {
    let parameters = sequence
        .strip_prefix('[')
        .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    parameters.is_some_and(|rest| rest.starts_with('m'))
}

/// A layer that writes the log lines that pass `filter` (in the form of `RUST_LOG`) to `writer`, standard error in
/// production.
pub fn layer<S, W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, LogError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = read(filter)?;
    Ok(match format {
        Format::Text => Box::new(text(writer, std::io::stderr().is_terminal()).with_filter(filter)),
        Format::Mozlog => {
            let pid = std::process::id();
            Box::new(mozlog(writer, pid).with_filter(filter))
        }
    })
}

fn text<S, W>(writer: W, colours: bool) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(OneLineEach { writer, colours })
        .with_ansi(colours)
}

fn mozlog<S, W>(writer: W, pid: u32) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(Mozlog { pid })
}

fn read(filter: &str) -> Result<EnvFilter, LogError> {
    // An empty filter means errors. Our own directives would make it a filter without that meaning.
    let filter = if filter.trim().is_empty() {
        "error"
    } else {
        filter
    };
    // Of two directives for the same name, the last one counts.
    Ok(EnvFilter::try_new(format!("{QUIET},{filter}"))?)
}

/// <https://wiki.mozilla.org/Firefox/Services/Logging>, version 2.0.
struct Mozlog {
    pid: u32,
}

/// A record has its own fields and those of the spans around it; the innermost value counts.
impl<S> FormatEvent<S, JsonFields> for Mozlog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|all| all.from_root())
        {
            let extensions = span.extensions();
            let of_span = extensions
                .get::<FormattedFields<JsonFields>>()
                .and_then(|formatted| serde_json::from_str::<Map<_, _>>(formatted).ok());
            fields.0.extend(of_span.into_iter().flatten());
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = json!({
            "Timestamp": timestamp(),
            "Type": metadata.target(),
            "Logger": "code-review-events",
            "EnvVersion": "2.0",
            "Severity": severity(*metadata.level()),
            "Pid": self.pid,
            "Fields": fields.0,
        });
        writeln!(writer, "{}", sanitize::json(&line.to_string()))
    }
}

/// Nanoseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "log lines bear the machine's time, whatever clock the work uses"
)]
fn timestamp() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// The severity in Syslog's numbers.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The fields of an event by name; the text is `message`.
#[derive(Debug, Default)]
pub struct Fields(pub Map<String, Value>);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.0
            .insert(field.name().to_owned(), Value::String(value.to_owned()));
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &field::Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_that_log_each_attempt_are_quiet_by_default() {
        for (filter, expected) in [
            ("info", 1),
            ("lapin=error", 1),
            ("info,lapin=error", 2),
            ("info,rustls_platform_verifier=error", 2),
            ("", 1),
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
            let layer = layer.with_filter(read(filter).unwrap());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                tracing::error!("of ours");
                tracing::error!(target: "lapin::channel", "of the client");
                tracing::error!(target: "rustls_platform_verifier::verification::others", "failed to verify");
            });
            assert_eq!(
                lines.0.lock().split(|byte| *byte == b'\n').count() - 1,
                expected,
                "{filter}"
            );
        }
    }

    #[test]
    fn text_record_is_one_line_with_foreign_text_escaped() {
        for colours in [false, true] {
            let lines = Lines::default();
            let writer = lines.clone();
            let layer = text(move || writer.clone(), colours);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let foreign = "a\u{202e}b\u{2066}c\nERROR forged\u{1b}[2J\u{9b}2J\u{2028}d";
                tracing::warn!(plain = foreign, shown = %foreign, "{foreign}");
            });
            let text = String::from_utf8(lines.0.lock().clone()).unwrap();
            assert_eq!(text.lines().count(), 1, "{text}");
            let hidden =
                |c: char| c != '\n' && c != ESCAPE && (c.is_control() || sanitize::is_format(c));
            assert!(
                !text.contains(hidden) && !text.contains("\u{1b}[2J"),
                "{text:?}"
            );
            assert_eq!(text.contains("\u{1b}["), colours, "{text:?}");
            assert_eq!(text.matches("\\u{202e}").count(), 3, "{text}");
        }
    }

    #[test]
    fn mozlog_record_is_one_json_object_on_one_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = mozlog(move || writer.clone(), 7);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let empty = field::Empty;
            let span =
                tracing::info_span!("delivery", queue = "build:load", count = 1, build = empty);
            span.record("build", "PHID\n\u{202e}");
            let _entered = span.entered();
            tracing::warn!(count = 3, who = "a \"quoted\"\nname\u{202e}", "two\nlines");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["Severity"], 4);
        assert_eq!(line["Pid"], 7);
        assert_eq!(
            line["Fields"],
            json!({"queue": "build:load", "build": "PHID\n\u{202e}", "count": 3, "who": "a \"quoted\"\nname\u{202e}", "message": "two\nlines"})
        );
        assert!(line["Timestamp"].as_i64().unwrap() > 1_700_000_000_000_000_000);
    }
}
