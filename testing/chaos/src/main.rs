//! `./dev chaos`: proves that nothing is lost, whatever dies.

mod chain;
mod cli;
mod console;
mod driver;
mod pipeline;
mod plan;
mod producer;
mod proxy;
mod redelivery;
mod redis;
mod report;
mod side_effects;
mod verify;
mod worker;
mod workers;
mod world;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;

use cli::{Campaign, Cli, Command};
use pipeline::Pipeline;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Worker(options)) => worker::work(options).await.map(|()| true),
        Some(Command::Pipeline(options)) => pipeline(options).await,
        None => campaign(cli.campaign).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn campaign(options: Campaign) -> anyhow::Result<bool> {
    let json = options.json;
    let report = driver::run(options).await?;
    print(&if json {
        serde_json::to_string(&report)?
    } else {
        report.table()
    })?;
    Ok(report.passed())
}

async fn pipeline(options: Pipeline) -> anyhow::Result<bool> {
    let report = pipeline::run(&options).await?;
    print(&if options.json {
        serde_json::to_string(&report)?
    } else {
        report.table()
    })?;
    Ok(report.passed())
}

/// The outcome. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
