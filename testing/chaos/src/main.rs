//! `./dev chaos`: proves that nothing is lost, whatever dies.

mod campaign;
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

use campaign::Outcome;
use cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Worker(options)) => worker::work(options).await.map(|()| true),
        Some(Command::Pipeline(options)) => pipeline::run(&options)
            .await
            .and_then(|report| finish(&report, options.json)),
        None => driver::run(&cli.campaign)
            .await
            .and_then(|report| finish(&report, cli.campaign.json)),
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

/// Prints the outcome, and says whether nothing is wrong.
fn finish(report: &impl Outcome, json: bool) -> anyhow::Result<bool> {
    campaign::print(report, json)?;
    Ok(report.passed())
}
