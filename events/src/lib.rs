//! Code review events: the binary's parts, as a library so that tests can use them.

pub mod app;
pub mod cli;
mod clients;
pub mod commands;
pub mod config;
mod environment;
mod fan_out;
pub mod features;
pub mod monitor;
pub mod queues;
mod redis_check;
mod resident;
pub mod role;
pub mod run;
pub mod signals;
mod source;

use std::io::Write;

use anyhow::Context;
use observe::log::Format;

/// The layer that writes log lines in the format `LOG_FORMAT`, filtered by `RUST_LOG`, or by `default` without it.
pub fn log_layer<S>(
    default: &str,
) -> anyhow::Result<Box<dyn tracing_subscriber::Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    log_layer_to(default, std::io::stderr)
}

/// The same for a `writer` that shares standard error with the log.
fn log_layer_to<S, W>(
    default: &str,
    writer: W,
) -> anyhow::Result<Box<dyn tracing_subscriber::Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let format = Format::parse(std::env::var("LOG_FORMAT").ok().as_deref())?;
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| default.to_owned());
    Ok(observe::log::layer(format, &filter, writer)?)
}

/// Prints a line of output, without control characters for the terminal: a part of it may be foreign text. A reader that
/// closes the pipe (`| head`) is not a failure.
pub fn print(line: &str) -> anyhow::Result<()> {
    print_to_reader(line).map(drop)
}

/// As [`print()`]; returns whether the reader is still there. A command without an end of its own ends when it is not.
pub fn print_to_reader(line: &str) -> anyhow::Result<bool> {
    write(format!("{}\n", runtime::sanitize::plain(line)).as_bytes())
}

/// Writes to standard output; returns whether it has a reader. A closed pipe is not an error.
fn write(output: &[u8]) -> anyhow::Result<bool> {
    match std::io::stdout().lock().write_all(output) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write the output"),
    }
}
