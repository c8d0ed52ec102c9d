//! Code review events: from a published patch to a push on Try and a link on its build.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use events::{
    cli::{Cli, Command},
    commands, log_layer, monitor, run,
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
            print_error(
                &anyhow::Error::new(error).context("cannot start the threads of the program"),
            );
            ExitCode::FAILURE
        }
    }
}

async fn execute(cli: Cli) -> ExitCode {
    // One TLS provider for the whole process. Only this line sets it, so it cannot fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = dispatch(cli.command).await;
    observe::sentry::close();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(options) => {
            start_observing()?;
            run::run(options).await
        }
        Command::Notify(options) if options.runs() => {
            start_observing()?;
            run::notify(options).await
        }
        Command::Monitor(options) => {
            start_observing()?;
            monitor::monitor(options).await
        }
        Command::Config(options) => commands::config(options).await,
        Command::Builds(options) => commands::builds(options).await,
        Command::Queues(options) => commands::queues(options).await,
        Command::DeadLetters(options) => commands::dead_letters(options).await,
        Command::Repositories(options) => commands::repositories(options).await,
        Command::Refs(options) => commands::refs(options).await,
        Command::Notify(options) => commands::notify(options).await,
        Command::Telemetry(options) => commands::telemetry(options).await,
        Command::Report(options) => commands::report(options).await,
        Command::Pulse(options) => commands::pulse(options).await,
        Command::Completions(options) => commands::completions(&options),
        Command::Man(options) => commands::man(&options),
    }
}

/// Starts the log, the reports to Sentry and the metrics of a process that runs until a signal.
fn start_observing() -> anyhow::Result<()> {
    tracing_subscriber::registry()
        .with(log_layer("info")?)
        .with(observe::sentry::layer())
        .init();
    observe::metrics::install();
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the error of a command that fails")]
fn print_error(error: &anyhow::Error) {
    eprintln!(
        "events: {}",
        runtime::sanitize::plain(&format!("{error:#}"))
    );
}
