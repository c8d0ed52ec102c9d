//! Code review events: from a published patch to a push on Try and a link on its build.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use events::{
    cli::{Cli, Command},
    log_layer, monitor, operate, run,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Run(options) = &cli.command
        && let Some(threads) = run::threads(options)
    {
        builder.worker_threads(threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(execute(cli)),
        Err(error) => {
            report(&anyhow::Error::new(error).context("cannot start the threads of the program"));
            ExitCode::FAILURE
        }
    }
}

async fn execute(cli: Cli) -> ExitCode {
    // One TLS provider for everything. It is set once, here, so setting it cannot fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match cli.command {
        Command::Run(options) => match log() {
            Ok(()) => run::run(options).await,
            Err(error) => Err(error),
        },
        Command::Notify(options) if options.runs() => match log() {
            Ok(()) => run::notify(options).await,
            Err(error) => Err(error),
        },
        Command::Notify(options) => operate::notify(options).await,
        Command::Monitor(options) => match log() {
            Ok(()) => monitor::monitor(options).await,
            Err(error) => Err(error),
        },
        Command::CheckConfig(options) => operate::check_config(options).await,
        Command::Why(options) => operate::why(options).await,
        Command::Builds(options) => operate::builds(options).await,
        Command::Retry(options) => operate::retry(options).await,
        Command::Cancel(options) => operate::cancel(options).await,
        Command::Audit(options) => operate::audit(options).await,
        Command::Queues(options) => operate::queues(options).await,
        Command::Dead(options) => operate::dead(options).await,
        Command::Repos(options) => operate::repos(options).await,
        Command::Report(options) => operate::report(options).await,
        Command::Pulse(options) => operate::pulse(options).await,
        Command::Telemetry(options) => operate::telemetry(options).await,
    };
    observe::sentry::close();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Installs logs and metrics, for commands that run on.
fn log() -> anyhow::Result<()> {
    tracing_subscriber::registry()
        .with(log_layer("info")?)
        .with(observe::sentry::layer())
        .init();
    observe::metrics::install();
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a program that fails reports why")]
fn report(error: &anyhow::Error) {
    eprintln!(
        "events: {}",
        runtime::sanitize::plain(&format!("{error:#}"))
    );
}
